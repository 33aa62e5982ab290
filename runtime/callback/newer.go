package callback

import (
	"context"
	"errors"

	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/store"
	"github.com/ens-operator/ens-operator/runtime/tenant"
)

// newerCredential is what became of a credential that the device sent with updatecredentials (rsa-split). Only a callback
// brings the key that shows whether it opens.
type newerCredential struct {
	sequence int64
	// blob is what rests in the database of it from now on, nil if it did not open.
	blob []byte
}

// settle records it. It returns false if other work has.
func (n *newerCredential) settle(ctx context.Context, s *store.Store, w *work) (bool, error) {
	if n.blob == nil {
		return s.RejectCredential(ctx, w.userID, w.generation, n.sequence)
	}
	return s.AcceptCredential(ctx, w.userID, w.generation, n.sequence, n.blob)
}

// open takes the user's credential out of the webhook and what rests of it in the database: the newer one if there is
// one and it opens, else the one before. A newer one has not been refused yet.
func open(t *tenant.Tenant, hook credential.Webhook, s store.Subscription) (credential.Credential, standing, *newerCredential, error) {
	used := store.Used{UserID: hook.UserID, Generation: hook.Generation, Sequence: s.Sequence}
	var newer *newerCredential
	if s.Update != "" {
		binding := credential.Binding{UserHash: s.UserHash, DeviceID: s.DeviceID, Sequence: s.UpdateSequence}
		c, blob, err := t.Keyring.OpenUpdate(hook, s.Key, s.AuthType, s.Update, binding)
		newer = &newerCredential{sequence: s.UpdateSequence, blob: blob}
		if err == nil {
			used.Sequence = s.UpdateSequence
			return c, standing{used: used}, newer, nil
		}
		if !errors.Is(err, credential.ErrUndecryptable) {
			return credential.Credential{}, standing{}, nil, err
		}
	}
	c, err := t.Keyring.OpenWebhook(hook, credential.Resting{Key: s.Key, Blob: s.Blob})
	return c, standing{used: used, unauthorizedAt: s.UnauthorizedAt, refusedAt: s.RefusedAt}, newer, err
}
