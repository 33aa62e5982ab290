package fcm

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/ens-operator/ens-operator/runtime/secret"
)

const (
	// maxAccountFile is far above the 2.4 KB of a service account as Google hands it out.
	maxAccountFile = 64 << 10
	// googleTokenURL is the only token endpoint a service account may name. It is also the audience of the assertion.
	googleTokenURL = "https://oauth2.googleapis.com/token"
	googleUniverse = "googleapis.com"
	accountType    = "service_account"
	keyBlock       = "PRIVATE KEY"
	leastKeyBits   = 2048
)

// account is what is used of a service account file.
type account struct {
	email     string
	keyID     string
	projectID string
	key       *rsa.PrivateKey
}

// parseAccount reads a service account file by allow-list. Other kinds of Google credentials can make a program read
// files, run commands or call any URL, so nothing but a plain service account with Google's own token endpoint is
// accepted, and even that endpoint is not taken from the file (architecture.md, rule 4). No error quotes a value of the
// file, except its type.
func parseAccount(file secret.Value) (account, error) {
	text := file.Reveal()
	switch {
	case len(bytes.TrimSpace(text)) == 0:
		return account{}, errors.New("the FCM service account is empty: put the JSON key file from the Firebase console there")
	case len(text) > maxAccountFile:
		return account{}, errors.New("the FCM service account is larger than 64 KiB: expected one JSON key file from the Firebase console")
	}
	var content struct {
		Type         string       `json:"type"`
		ProjectID    string       `json:"project_id"`
		PrivateKeyID string       `json:"private_key_id"`
		PrivateKey   secret.Value `json:"private_key"`
		ClientEmail  string       `json:"client_email"`
		TokenURI     string       `json:"token_uri"`
		Universe     string       `json:"universe_domain"`
	}
	if err := json.Unmarshal(text, &content); err != nil {
		return account{}, errors.New("the FCM service account is not valid JSON: expected the JSON key file from the Firebase console, unchanged")
	}
	defer content.PrivateKey.Wipe()
	switch {
	case content.Type != accountType:
		return account{}, fmt.Errorf("the FCM service account has type %.40q: only %q is accepted "+
			"(Firebase console, project settings, service accounts)", content.Type, accountType)
	case content.ProjectID == "":
		return account{}, errors.New("the FCM service account has no project_id")
	case !strings.Contains(content.ClientEmail, "@"):
		return account{}, errors.New("the FCM service account has no client_email")
	case content.TokenURI != "" && content.TokenURI != googleTokenURL:
		return account{}, fmt.Errorf("the FCM service account names a token_uri other than %s: no other is accepted", googleTokenURL)
	case content.Universe != "" && content.Universe != googleUniverse:
		return account{}, fmt.Errorf("the FCM service account names a universe_domain other than %s: no other is accepted", googleUniverse)
	}
	key, err := parseRSAKey(content.PrivateKey.Reveal())
	if err != nil {
		return account{}, err
	}
	return account{email: content.ClientEmail, keyID: content.PrivateKeyID, projectID: content.ProjectID, key: key}, nil
}

var errAccountKey = errors.New("the FCM service account's private_key is not a PKCS#8 RSA key of at least 2048 bits in PEM form: " +
	"use the JSON key file as it comes from Google")

// parseRSAKey reads the private key. The parser's own words could quote it, so they are dropped.
func parseRSAKey(text []byte) (*rsa.PrivateKey, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != keyBlock || len(bytes.TrimSpace(rest)) != 0 {
		return nil, errAccountKey
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errAccountKey
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok || key.N.BitLen() < leastKeyBits {
		return nil, errAccountKey
	}
	return key, nil
}
