// Package credentials judges keys and certificates that users bring, and tells of them what is no secret.
//
// All of it is foreign bytes: sizes are bounded before anything is parsed, and what is not on the list of what is
// needed is refused (architecture.md, rule 4).
package credentials

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
)

const (
	// A P-256 key in PKCS #8 and PEM has about 250 bytes; some files have comments around it.
	maxAPNsKey = 4 << 10
	// A service account file with a 2,048-bit key has about 2,400 bytes, with a 4,096-bit key about 4,000.
	maxServiceAccount = 16 << 10
	// Google makes keys of 2,048 bits; less is no longer safe.
	minRSABits = 2048
)

// APNsKey is what may be told of an APNs signing key.
type APNsKey struct {
	// PublicKeySHA256 is the fingerprint of the public half, 64 hex digits.
	PublicKeySHA256 string
}

// ParseAPNsKey reads an APNs signing key as Apple gives it out: a P-256 key as PKCS #8 in PEM.
func ParseAPNsKey(data []byte) (APNsKey, error) {
	if len(data) > maxAPNsKey {
		return APNsKey{}, fmt.Errorf("it has %d bytes, a signing key of Apple has at most %d", len(data), maxAPNsKey)
	}
	key, err := parsePrivateKey(data)
	if err != nil {
		return APNsKey{}, err
	}
	ecdsaKey, ok := key.(*ecdsa.PrivateKey)
	if !ok || ecdsaKey.Curve != elliptic.P256() {
		return APNsKey{}, errors.New("it is no key for the curve P-256, which Apple's signing keys are for")
	}
	fingerprint, err := fingerprintOf(ecdsaKey.Public())
	return APNsKey{PublicKeySHA256: fingerprint}, err
}

// ServiceAccount is what may be told of a service account of Google.
type ServiceAccount struct {
	ProjectID   string
	ClientEmail string
	// PublicKeySHA256 is the fingerprint of the public half of its key, 64 hex digits.
	PublicKeySHA256 string
}

// googleTokenURI is Google's token endpoint, and the only one that the runtime accepts. Files of long ago name another.
const googleTokenURI = "https://oauth2.googleapis.com/token"

// serviceAccountAddress is what the address of every service account looks like.
var serviceAccountAddress = regexp.MustCompile(`^[a-z0-9][-a-z0-9.]{0,100}@[a-z0-9][-a-z0-9.:]{0,100}\.gserviceaccount\.com$`)

// ParseServiceAccount reads a service account's key file. Files of other kinds (users, external accounts, …) could make
// a client run programs or ask any server for a token, and are refused.
func ParseServiceAccount(data []byte) (ServiceAccount, error) {
	if len(data) > maxServiceAccount {
		return ServiceAccount{}, fmt.Errorf("it has %d bytes, a service account's key file has at most %d", len(data), maxServiceAccount)
	}
	var file struct {
		Type           string `json:"type"`
		ProjectID      string `json:"project_id"`
		ClientEmail    string `json:"client_email"`
		PrivateKey     string `json:"private_key"`
		TokenURI       string `json:"token_uri"`
		UniverseDomain string `json:"universe_domain"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return ServiceAccount{}, errors.New("it is no JSON") // the parser's error may quote what it read
	}
	switch {
	case file.Type != "service_account":
		return ServiceAccount{}, errors.New(`its type is not "service_account"`)
	case file.TokenURI != googleTokenURI:
		return ServiceAccount{}, fmt.Errorf("its token_uri is not %s: make a new key of the service account", googleTokenURI)
	case file.UniverseDomain != "" && file.UniverseDomain != "googleapis.com":
		return ServiceAccount{}, errors.New("its universe_domain is not googleapis.com")
	case file.ProjectID == "":
		return ServiceAccount{}, errors.New("it has no project_id")
	case !serviceAccountAddress.MatchString(file.ClientEmail):
		return ServiceAccount{}, errors.New("its client_email is not the address of a service account (….gserviceaccount.com)")
	}
	key, err := parsePrivateKey([]byte(file.PrivateKey))
	if err != nil {
		return ServiceAccount{}, fmt.Errorf("its private_key cannot be used: %w", err)
	}
	rsaKey, ok := key.(*rsa.PrivateKey)
	if !ok || rsaKey.N.BitLen() < minRSABits {
		return ServiceAccount{}, fmt.Errorf("its private_key is no RSA key of at least %d bits", minRSABits)
	}
	fingerprint, err := fingerprintOf(rsaKey.Public())
	return ServiceAccount{ProjectID: file.ProjectID, ClientEmail: file.ClientEmail, PublicKeySHA256: fingerprint}, err
}

// parsePrivateKey reads one key as PKCS #8 in PEM. Its errors say nothing of the content.
func parsePrivateKey(data []byte) (crypto.PrivateKey, error) {
	block, rest := pem.Decode(data)
	if block == nil {
		return nil, errors.New(`it holds no PEM block ("-----BEGIN PRIVATE KEY-----")`)
	}
	if block.Type != "PRIVATE KEY" {
		return nil, errors.New("its PEM block is no unencrypted PKCS #8 key (\"PRIVATE KEY\")")
	}
	if len(bytes.TrimSpace(rest)) != 0 {
		return nil, errors.New("something follows the first PEM block")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("its PEM block does not hold a PKCS #8 key")
	}
	return key, nil
}

// fingerprintOf is the SHA-256 of the key's SubjectPublicKeyInfo in hex.
func fingerprintOf(key crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("encoding the public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}
