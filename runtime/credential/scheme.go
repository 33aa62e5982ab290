package credential

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ens-operator/ens-operator/runtime/secret"
)

// Scheme is how the device encrypts its credential (protocol.md, `encryption`).
type Scheme string

// The schemes.
const (
	// RSAPKCS1 is one RSA-2048 PKCS#1 v1.5 block, at most 245 bytes of plaintext (K-07).
	RSAPKCS1 Scheme = "rsa-pkcs1"
)

// Schemes are those offered to devices, in the order of the contract.
func Schemes() []Scheme { return []Scheme{RSAPKCS1} }

// ErrUndecryptable is the one answer to everything that is wrong with an encrypted payload (protocol.md, rule 3): bad
// padding, invalid UTF-8, control characters, bad JSON, missing fields. To tell them apart would help an attacker to
// decrypt by trial.
var ErrUndecryptable = errors.New("the payload cannot be decrypted with the user's key")

// Decrypt takes a credential out of what a device sent in base64. Every failure is ErrUndecryptable.
func Decrypt(key *rsa.PrivateKey, scheme Scheme, authType AuthType, payload string) (Credential, error) {
	if scheme != RSAPKCS1 || authType != Basic {
		return Credential{}, ErrUndecryptable
	}
	plain, err := decryptBlock(key, payload)
	if err != nil {
		return Credential{}, err
	}
	defer clear(plain)
	return parseBasic(plain)
}

// DecryptEmail takes the e-mail address out of what a device sent and checks that it is the user's: the SHA-256 of the
// lower-cased address must be userHash (P-08). Every failure is ErrUndecryptable.
func DecryptEmail(key *rsa.PrivateKey, payload string, userHash [sha256.Size]byte) (secret.Value, error) {
	plain, err := decryptBlock(key, payload)
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

func decryptBlock(key *rsa.PrivateKey, payload string) ([]byte, error) {
	block, err := base64.StdEncoding.DecodeString(payload)
	if err != nil || len(block) != key.Size() {
		return nil, ErrUndecryptable
	}
	//nolint:staticcheck // SA1019: PKCS#1 v1.5 is the original's contract (K-07); the padding oracle it can become is
	// closed by one uniform answer and a budget of failures per user.
	plain, err := rsa.DecryptPKCS1v15(nil, key, block)
	if err != nil {
		return nil, ErrUndecryptable
	}
	return plain, nil
}

// parseBasic reads {"username","password"}, or username:password; text that starts with { is always JSON.
func parseBasic(plain []byte) (Credential, error) {
	if !utf8.Valid(plain) {
		return Credential{}, ErrUndecryptable
	}
	var fields struct {
		Username secret.Value `json:"username"`
		Password secret.Value `json:"password"`
	}
	if bytes.HasPrefix(plain, []byte("{")) {
		decoder := json.NewDecoder(bytes.NewReader(plain))
		if err := decoder.Decode(&fields); err != nil {
			return Credential{}, ErrUndecryptable
		}
		if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
			return Credential{}, ErrUndecryptable
		}
	} else {
		username, password, found := bytes.Cut(plain, []byte(":"))
		if !found {
			return Credential{}, ErrUndecryptable
		}
		fields.Username, fields.Password = secret.New(bytes.Clone(username)), secret.New(bytes.Clone(password))
	}
	c := Credential{AuthType: Basic, Username: fields.Username, Password: fields.Password}
	if !presentable(c.Username.RevealString()) || !presentable(c.Password.RevealString()) {
		c.Wipe()
		return Credential{}, ErrUndecryptable
	}
	return c, nil
}

// presentable reports whether text is not empty and free of control characters, which no name, address or password
// has, but which would break the headers they are put into.
func presentable(text string) bool {
	return text != "" && utf8.ValidString(text) && !strings.ContainsFunc(text, unicode.IsControl)
}
