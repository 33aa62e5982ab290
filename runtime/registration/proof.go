package registration

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/enslog"
	"github.com/ens-operator/ens-operator/runtime/ews"
	"github.com/ens-operator/ens-operator/runtime/ews/autodiscover"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

// connect proves the mailbox at the endpoint that the device named, the tenant's only one, or the one that Autodiscover
// finds. What Autodiscover finds is remembered for the whole domain, but not all of its mailboxes need be at one server:
// if that one does not know the user, Autodiscover is asked anew. The session it returns must be closed.
func (a *attempt) connect(ctx context.Context) (*ews.Session, error) {
	if a.endpoint = a.request.Endpoint; a.endpoint != nil {
		return a.prove(ctx)
	}
	if err := a.discover(ctx, false); err != nil {
		return nil, err
	}
	session, err := a.prove(ctx)
	if err == nil || !misled(err) {
		return session, err
	}
	wrong := a.endpoint
	if again := a.discover(ctx, true); again != nil || a.endpoint == wrong {
		return nil, errors.Join(err, again)
	}
	return a.prove(ctx)
}

// misled reports whether an endpoint may have refused the user because the mailbox is at another one: it says so, or it
// is another organisation's, where nobody knows the user.
func misled(err error) bool {
	for _, kind := range []error{ews.ErrWrongServer, ews.ErrUnauthorized, ews.ErrForbidden, ews.ErrNotFound, ews.ErrAccessDenied} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// discover asks Autodiscover for the endpoint. Errors: ErrExchange, ErrNoEndpoint.
func (a *attempt) discover(ctx context.Context, fresh bool) error {
	discoverer := a.tenant.Discoverer()
	if discoverer == nil {
		return fmt.Errorf("%w: the tenant has several, and the device named none", ErrNoEndpoint)
	}
	address := a.email
	if address.IsZero() {
		login := a.credential.Login()
		defer login.Wipe()
		if credential.HashAddress(login.RevealString()) != a.request.UserHash {
			return fmt.Errorf("%w: to be found by Autodiscover, the device has to send the e-mail address", ErrNoEndpoint)
		}
		address = login
	}
	name, err := discoverer.Find(ctx, address, a.credential, a.request.ActivityID, fresh)
	if err != nil {
		a.undiscovered = true
		enslog.DiscoveryFailed.Log(ctx, a.Logger, err.Error())
	}
	switch {
	case errors.Is(err, autodiscover.ErrNotAllowed), errors.Is(err, autodiscover.ErrNoEndpoint):
		return fmt.Errorf("%w: %w", ErrNoEndpoint, err)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrExchange, err)
	}
	a.endpoint = a.tenant.Endpoint(name)
	return nil
}

// prove opens the Inbox with the credential and shows that its mailbox belongs to the user. It sets the mailbox id: the
// SHA-256 of the Inbox's folder id. Errors: ErrExchange, ErrProof.
func (a *attempt) prove(ctx context.Context) (*ews.Session, error) {
	session := a.endpoint.Client.Session(a.credential, a.request.ActivityID)
	session.SetDevices(a.request.Device.ID)
	if err := a.proveBy(ctx, session); err != nil {
		session.Close()
		return nil, err
	}
	return session, nil
}

func (a *attempt) proveBy(ctx context.Context, session *ews.Session) error {
	own, err := session.Inbox(ctx, "")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrExchange, err)
	}
	switch {
	case !a.email.IsZero():
		err = proveByAddress(ctx, session, own, a.email)
	case a.tenant.Config.MailboxProof == config.ProofRequired:
		login := a.credential.Login()
		defer login.Wipe()
		err = proveByDirectory(ctx, session, own, a.request.UserHash, login)
	}
	if err != nil {
		return err
	}
	id := sha256.Sum256([]byte(own.ID))
	a.mailboxID = id[:]
	return nil
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
	if login.IsZero() {
		return fmt.Errorf("%w: neither token nor certificate names the user; the device has to send the e-mail address", ErrProof)
	}
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
