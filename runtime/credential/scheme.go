package credential

import (
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

// Scheme is how the device encrypts its credential (protocol.md, `encryption`).
type Scheme string

// The schemes.
const (
	// RSAPKCS1 is one RSA-2048 PKCS#1 v1.5 block, at most 245 bytes of plaintext (K-07).
	RSAPKCS1 Scheme = "rsa-pkcs1"
	// RSAPKCS1Chunked is at most MaxBlocks such blocks in a row: a token or a certificate does not fit one.
	RSAPKCS1Chunked Scheme = "rsa-pkcs1-chunked"
	// RSASplit is an AES-256-GCM blob under a data key that the device keeps, so that it can send a new credential
	// without a new subscription. The data key comes once, as an RSA block.
	RSASplit Scheme = "rsa-split"
)

// MaxBlocks bounds the blocks of RSAPKCS1Chunked, and with it the RSA operations of one registration.
const MaxBlocks = 64

// Schemes are those offered to devices, in the order of the contract.
func Schemes() []Scheme { return []Scheme{RSAPKCS1, RSAPKCS1Chunked, RSASplit} }

// ErrUndecryptable is the one answer to everything that is wrong with an encrypted payload (protocol.md, rule 3): bad
// padding, invalid UTF-8, control characters, bad JSON, missing fields. To tell them apart would help an attacker to
// decrypt by trial.
var ErrUndecryptable = errors.New("the payload cannot be decrypted with the user's key")

// Payload is a credential as a device sends it.
type Payload struct {
	Scheme   Scheme
	AuthType AuthType
	// Credentials is base64 ciphertext.
	Credentials string
	// WrappedKey is the data key's RSA block in base64, for RSASplit alone.
	WrappedKey string
	// Binding is what a blob of RSASplit is bound to.
	Binding Binding
}

// Binding is what the blob of RSASplit is bound to, so that it is taken for no other user's, device's or time's.
type Binding struct {
	UserHash [sha256.Size]byte
	DeviceID string
	// Sequence rises with every credential that the device sends.
	Sequence int64
}

// additionalData is `userId|deviceId|sequence` (protocol.md, Forms).
func (b Binding) additionalData() []byte {
	return fmt.Appendf(nil, "%x|%s|%d", b.UserHash, b.DeviceID, b.Sequence)
}

// Decrypt takes a credential out of what a device sent, and the data key if the scheme has one. Every failure is
// ErrUndecryptable. Caller wipes both.
func Decrypt(key *rsa.PrivateKey, p Payload) (c Credential, dataKey secret.Value, err error) {
	var plain []byte
	switch p.Scheme {
	case RSAPKCS1:
		plain, err = decryptBlocks(key, p.Credentials, 1)
	case RSAPKCS1Chunked:
		plain, err = decryptBlocks(key, p.Credentials, MaxBlocks)
	case RSASplit:
		plain, dataKey, err = decryptSplit(key, p)
	default:
		err = ErrUndecryptable
	}
	if err != nil {
		return Credential{}, secret.Value{}, err
	}
	defer clear(plain)
	if c, err = parse(plain, p.AuthType); err != nil {
		dataKey.Wipe()
		return Credential{}, secret.Value{}, err
	}
	return c, dataKey, nil
}

func decryptSplit(key *rsa.PrivateKey, p Payload) (plain []byte, dataKey secret.Value, err error) {
	unwrapped, err := decryptBlocks(key, p.WrappedKey, 1)
	if err != nil {
		return nil, dataKey, err
	}
	dataKey = secret.New(unwrapped)
	if plain, err = openBlob(dataKey, p.Credentials, p.Binding); err != nil {
		dataKey.Wipe()
	}
	return plain, dataKey, err
}

// openBlob opens what a device sealed under its data key: nonce, ciphertext and tag in base64.
func openBlob(dataKey secret.Value, payload string, binding Binding) ([]byte, error) {
	blob, err := base64.StdEncoding.DecodeString(payload)
	if err != nil || len(dataKey.Reveal()) != config.KeySize {
		return nil, ErrUndecryptable
	}
	aead, err := newAEAD(dataKey.Reveal())
	if err != nil {
		return nil, ErrUndecryptable
	}
	plain, err := aead.Open(nil, nil, blob, binding.additionalData())
	if err != nil {
		return nil, ErrUndecryptable
	}
	return plain, nil
}

// DecryptEmail takes the e-mail address out of what a device sent and checks that it is the user's: the SHA-256 of the
// lower-cased address must be userHash (P-08). Every failure is ErrUndecryptable.
func DecryptEmail(key *rsa.PrivateKey, payload string, userHash [sha256.Size]byte) (secret.Value, error) {
	plain, err := decryptBlocks(key, payload, 1)
	if err != nil {
		return secret.Value{}, err
	}
	address := string(plain)
	if !presentable(address) || HashAddress(address) != userHash {
		clear(plain)
		return secret.Value{}, ErrUndecryptable
	}
	return secret.New(plain), nil
}

// HashAddress is the user's id: SHA-256 of the UTF-8 lower-cased e-mail address (P-08).
func HashAddress(address string) [sha256.Size]byte {
	return sha256.Sum256([]byte(strings.ToLower(address)))
}

// ParseUserID reads a userId, 64 lower-case hex digits.
func ParseUserID(text string) (hash [sha256.Size]byte, err error) {
	if len(text) != hex.EncodedLen(sha256.Size) || strings.ToLower(text) != text {
		return hash, fmt.Errorf("want %d lower-case hex digits", hex.EncodedLen(sha256.Size))
	}
	if _, err := hex.Decode(hash[:], []byte(text)); err != nil {
		return hash, fmt.Errorf("want %d lower-case hex digits", hex.EncodedLen(sha256.Size))
	}
	return hash, nil
}

// decryptBlocks opens at most limit RSA blocks in a row.
func decryptBlocks(key *rsa.PrivateKey, payload string, limit int) ([]byte, error) {
	blocks, err := base64.StdEncoding.DecodeString(payload)
	if err != nil || len(blocks) == 0 || len(blocks)%key.Size() != 0 || len(blocks) > limit*key.Size() {
		return nil, ErrUndecryptable
	}
	// The whole plaintext is shorter than its blocks, so that nothing of it is left behind by a slice that grew.
	plain := make([]byte, 0, len(blocks))
	for block := range slices.Chunk(blocks, key.Size()) {
		//nolint:staticcheck // SA1019: PKCS#1 v1.5 is the original's contract (K-07); the padding oracle it can become
		// is closed by one uniform answer and a budget of failures per user.
		part, err := rsa.DecryptPKCS1v15(nil, key, block)
		if err != nil {
			clear(plain)
			return nil, ErrUndecryptable
		}
		plain = append(plain, part...)
		clear(part)
	}
	return plain, nil
}

// presentable reports whether text is not empty and free of control characters, which no name, address or password
// has, but which would break the headers they are put into.
func presentable(text string) bool {
	return text != "" && utf8.ValidString(text) && !strings.ContainsFunc(text, unicode.IsControl)
}
