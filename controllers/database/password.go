package database

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"github.com/ens-operator/ens-operator/runtime/secret"
)

const (
	// scramIterations is Postgres' own default. More would only slow down logins: the passwords are random.
	scramIterations = 4096
	scramSaltBytes  = 16
)

// NewPassword makes a password of 130 random bits, in letters and digits that need no quoting anywhere.
func NewPassword() secret.Value { return secret.FromString(rand.Text()) }

// scramVerifier is what Postgres keeps of a password (RFC 5802, RFC 7677). The password must be ASCII.
func scramVerifier(password secret.Value) (string, error) {
	salt := make([]byte, scramSaltBytes)
	_, _ = rand.Read(salt) // never fails, see crypto/rand
	salted, err := pbkdf2.Key(sha256.New, password.RevealString(), salt, scramIterations, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("deriving the SCRAM verifier: %w", err)
	}
	mac := func(text string) []byte {
		h := hmac.New(sha256.New, salted)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	stored := sha256.Sum256(mac("Client Key"))
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", scramIterations, encode(salt), encode(stored[:]), encode(mac("Server Key"))), nil
}
