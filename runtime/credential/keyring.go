package credential

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

var (
	// ErrUnknownKey says that something was sealed or signed with a key version that this process does not have. It is
	// our own fault, never the caller's (protocol.md, rule 2).
	ErrUnknownKey = errors.New("the key version is not known here")
	// ErrSealBroken says that sealed bytes do not open: another key, another context, or damage.
	ErrSealBroken = errors.New("the sealed bytes do not open")
)

// Keyring seals what rests in the database under the tenant's newest KEK, opens it under any, and signs webhook URLs.
// It is bound to one tenant: what was sealed for another does not open. Safe for concurrent use.
type Keyring struct {
	tenant        string
	keks          map[int]cipher.AEAD
	newestKEK     int
	webhooks      map[int]secret.Value
	newestWebhook int
}

// NewKeyring makes a Keyring from the tenant's keys.
func NewKeyring(tenant string, keys config.Keys) (*Keyring, error) {
	ring := &Keyring{
		tenant:        tenant,
		keks:          map[int]cipher.AEAD{},
		newestKEK:     config.Newest(keys.KEKs),
		webhooks:      keys.Webhooks,
		newestWebhook: config.Newest(keys.Webhooks),
	}
	for number, key := range keys.KEKs {
		aead, err := newAEAD(key.Reveal())
		if err != nil {
			return nil, fmt.Errorf("KEK %d: %w", number, err)
		}
		ring.keks[number] = aead
	}
	if ring.newestKEK == 0 || ring.newestWebhook == 0 {
		return nil, config.ErrNoKey
	}
	return ring, nil
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

func (k *Keyring) seal(plain []byte, purpose, context string) []byte {
	sealed := binary.BigEndian.AppendUint32(nil, uint32(k.newestKEK))
	return k.keks[k.newestKEK].Seal(sealed, nil, plain, k.additionalData(purpose, context))
}

func (k *Keyring) open(sealed []byte, purpose, context string) ([]byte, error) {
	if len(sealed) < kekNumberSize {
		return nil, ErrSealBroken
	}
	number := int(binary.BigEndian.Uint32(sealed))
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
