package credential

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

var (
	// ErrUnknownKey says that something was sealed or signed with a key version that this process does not have. It is
	// our own fault, never the caller's (protocol.md, rule 2).
	ErrUnknownKey = errors.New("the key version is not known here")
	// ErrUndecided says that it is not known yet under which key to seal: the database has to be asked first what other
	// replicas can read.
	ErrUndecided = errors.New("it is not known yet which keys all replicas have; come again in a few seconds")
	// ErrSealBroken says that sealed bytes do not open: another key, another context, or damage.
	ErrSealBroken = errors.New("the sealed bytes do not open")
)

// Keyring seals what rests in the database, opens what was sealed under any of the tenant's keys, and signs webhook
// URLs. Which keys it seals and signs with is decided by SealWith, because every replica must be able to read them. It
// is bound to one tenant: what was sealed for another does not open. Safe for concurrent use.
type Keyring struct {
	tenant   string
	keks     map[int]cipher.AEAD
	webhooks map[int]secret.Value
	// kek and webhook are the numbers to seal and sign with, 0 as long as it is not decided.
	kek, webhook atomic.Int64
}

// NewKeyring makes a Keyring from the tenant's keys. It opens at once; to seal, it has to be told with which keys.
func NewKeyring(tenant string, keys config.Keys) (*Keyring, error) {
	ring := &Keyring{tenant: tenant, keks: map[int]cipher.AEAD{}, webhooks: keys.Webhooks}
	for number, key := range keys.KEKs {
		aead, err := newAEAD(key.Reveal())
		if err != nil {
			return nil, fmt.Errorf("KEK %d: %w", number, err)
		}
		ring.keks[number] = aead
	}
	if len(ring.keks) == 0 || len(ring.webhooks) == 0 {
		return nil, config.ErrNoKey
	}
	return ring, nil
}

// SealWith decides which KEK to seal with and which webhook key to sign with, from now on. It returns ErrUnknownKey,
// and changes nothing, if one of them is not at hand.
func (k *Keyring) SealWith(kek, webhook int) error {
	if _, ok := k.keks[kek]; !ok {
		return fmt.Errorf("KEK %d: %w", kek, ErrUnknownKey)
	}
	if _, ok := k.webhooks[webhook]; !ok {
		return fmt.Errorf("webhook key %d: %w", webhook, ErrUnknownKey)
	}
	k.kek.Store(int64(kek))
	k.webhook.Store(int64(webhook))
	return nil
}

// Sealing returns the numbers of the keys that are sealed and signed with, 0 as long as it is not decided.
func (k *Keyring) Sealing() (kek, webhook int) { return int(k.kek.Load()), int(k.webhook.Load()) }

func (k *Keyring) sealingWebhook() (int, error) {
	number := int(k.webhook.Load())
	if number == 0 {
		return 0, ErrUndecided
	}
	return number, nil
}

// newAEAD is AES-256-GCM with random nonces. One key seals far fewer than the 2^32 messages at which they would be
// worth a thought: a KEK some rows per registration, a subscription key exactly one.
func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("making the cipher: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// What a sealed value is for. It is bound in, so that one kind of value cannot be passed off as another.
const (
	purposePrivateKey      = "private key"
	purposeSubscriptionKey = "subscription key"
)

// kekNumberSize is the length of the KEK's number before the sealed bytes.
const kekNumberSize = 4

func (k *Keyring) seal(plain []byte, purpose, context string) ([]byte, error) {
	number := int(k.kek.Load())
	if number == 0 {
		return nil, ErrUndecided
	}
	sealed := binary.BigEndian.AppendUint32(nil, uint32(number))
	return k.keks[number].Seal(sealed, nil, plain, k.additionalData(purpose, context)), nil
}

// SealedUnder is the number of the KEK that a sealed private or subscription key was sealed under, 0 if it is damaged.
func SealedUnder(sealed []byte) int {
	if len(sealed) < kekNumberSize {
		return 0
	}
	return int(binary.BigEndian.Uint32(sealed))
}

// ResealKeyPair seals the private key of a pair anew, under the KEK that is sealed with now. Errors: ErrUnknownKey,
// ErrSealBroken, ErrUndecided.
func (k *Keyring) ResealKeyPair(keyID string, private []byte) ([]byte, error) {
	return k.reseal(private, purposePrivateKey, keyID)
}

// ResealSubscriptionKey does the same with the key of a subscription.
func (k *Keyring) ResealSubscriptionKey(userID, generation int64, sealed []byte) ([]byte, error) {
	return k.reseal(sealed, purposeSubscriptionKey, Webhook{UserID: userID, Generation: generation}.context())
}

func (k *Keyring) reseal(sealed []byte, purpose, context string) ([]byte, error) {
	plain, err := k.open(sealed, purpose, context)
	if err != nil {
		return nil, fmt.Errorf("opening what is to be sealed anew: %w", err)
	}
	defer clear(plain)
	return k.seal(plain, purpose, context)
}

func (k *Keyring) open(sealed []byte, purpose, context string) ([]byte, error) {
	if len(sealed) < kekNumberSize {
		return nil, ErrSealBroken
	}
	number := SealedUnder(sealed)
	aead, ok := k.keks[number]
	if !ok {
		return nil, fmt.Errorf("KEK %d: %w", number, ErrUnknownKey)
	}
	plain, err := aead.Open(nil, nil, sealed[kekNumberSize:], k.additionalData(purpose, context))
	if err != nil {
		return nil, fmt.Errorf("under KEK %d: %w", number, ErrSealBroken)
	}
	return plain, nil
}

// additionalData binds a sealed value to its tenant, purpose and context. NUL occurs in none of them.
func (k *Keyring) additionalData(purpose, context string) []byte {
	return []byte("ens-operator v1\x00" + k.tenant + "\x00" + purpose + "\x00" + context)
}

// newKey makes a fresh AES-256 key.
func newKey() []byte {
	key := make([]byte, config.KeySize)
	_, _ = rand.Read(key) // never fails, see crypto/rand
	return key
}
