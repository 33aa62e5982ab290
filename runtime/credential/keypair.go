package credential

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
)

// KeyBits is the size of a user's RSA key (K-07).
const KeyBits = 2048

// keyIDSize is how much of the public key's SHA-256 names a pair: enough that two pairs of a tenant never meet.
const keyIDSize = 8

// KeyPair is a user's RSA key pair as it rests in the database.
type KeyPair struct {
	// ID names the pair: the first bytes of the SHA-256 of Public, in hex.
	ID string
	// Public is the DER SubjectPublicKeyInfo, which the device gets.
	Public []byte
	// Private is the DER PKCS#8 key, sealed under the KEK. It holds the CRT values: without them a decryption costs
	// almost twice as much.
	Private []byte
}

// NewKeyPair generates a pair, which takes some 40 ms of CPU, and seals it. Error: ErrUndecided.
func (k *Keyring) NewKeyPair() (KeyPair, error) {
	key, err := rsa.GenerateKey(rand.Reader, KeyBits)
	if err != nil {
		return KeyPair{}, fmt.Errorf("generating a key pair: %w", err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return KeyPair{}, fmt.Errorf("encoding a public key: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return KeyPair{}, fmt.Errorf("encoding a private key: %w", err)
	}
	defer clear(private)
	sum := sha256.Sum256(public)
	id := hex.EncodeToString(sum[:keyIDSize])
	sealed, err := k.seal(private, purposePrivateKey, id)
	if err != nil {
		return KeyPair{}, err
	}
	return KeyPair{ID: id, Public: public, Private: sealed}, nil
}

// OpenKeyPair returns the private key of a pair. Errors: ErrUnknownKey, ErrSealBroken.
func (k *Keyring) OpenKeyPair(pair KeyPair) (*rsa.PrivateKey, error) {
	der, err := k.open(pair.Private, purposePrivateKey, pair.ID)
	if err != nil {
		return nil, fmt.Errorf("opening the private key: %w", err)
	}
	defer clear(der)
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("reading the private key: %w", ErrSealBroken)
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("reading the private key: %w", ErrSealBroken)
	}
	return key, nil
}
