package registration

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/ews"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

// prove opens the Inbox with the credential and shows that its mailbox belongs to the user. It returns the mailbox id:
// the SHA-256 of the Inbox's folder id. Errors: ErrExchange, ErrProof.
func prove(ctx context.Context, session *ews.Session, how config.MailboxProof, userHash [sha256.Size]byte, login, email secret.Value) ([]byte, error) {
	own, err := session.Inbox(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrExchange, err)
	}
	switch {
	case !email.IsZero():
		err = proveByAddress(ctx, session, own, email)
	case how == config.ProofRequired:
		err = proveByDirectory(ctx, session, own, userHash, login)
	}
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256([]byte(own.ID))
	return id[:], nil
}

// proveByAddress: the address, whose hash is the userId, must lead to the credential's own mailbox. That it merely may
// be opened is not enough: a delegate's device would get the mail of the delegate under the name of the mailbox.
func proveByAddress(ctx context.Context, session *ews.Session, own ews.Folder, email secret.Value) error {
	addressed, err := session.Inbox(ctx, email.RevealString())
	if errors.Is(err, ews.ErrAccessDenied) || errors.Is(err, ews.ErrItemNotFound) {
		return fmt.Errorf("%w: %w", ErrProof, err)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrExchange, err)
	}
	if addressed.ID != own.ID {
		return fmt.Errorf("%w: the e-mail address leads to another mailbox than the credential's own", ErrProof)
	}
	return nil
}

// proveByDirectory finds the address whose hash is the userId among those that the directory gives for the login name,
// and then proves by it. ResolveNames also matches by prefix (`ali` finds `alice`) and several entries, so that an entry
// carries the right address proves nothing by itself: that the address leads to the credential's own mailbox does.
func proveByDirectory(ctx context.Context, session *ews.Session, own ews.Folder, userHash [sha256.Size]byte, login secret.Value) error {
	resolutions, err := session.ResolveNames(ctx, accountName(login.RevealString()))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrExchange, err)
	}
	for _, resolution := range resolutions {
		for _, address := range append(resolution.Addresses, resolution.EmailAddress) {
			if credential.HashAddress(address) == userHash {
				return proveByAddress(ctx, session, own, secret.FromString(address))
			}
		}
	}
	return fmt.Errorf("%w: the directory has no mailbox with this userId's address for the login name", ErrProof)
}

// accountName takes the domain off DOMAIN\user; a UPN stays as it is.
func accountName(login string) string {
	if _, user, found := strings.Cut(login, `\`); found {
		return user
	}
	return login
}
