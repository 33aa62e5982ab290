package fcmtest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
)

const (
	keyBits  = 2048
	tokenURI = "https://oauth2.googleapis.com/token"
)

// file is a service account file with all the fields that Google puts there.
type file struct {
	Type                    string `json:"type"`
	ProjectID               string `json:"project_id"`
	PrivateKeyID            string `json:"private_key_id"`
	PrivateKey              string `json:"private_key"`
	ClientEmail             string `json:"client_email"`
	ClientID                string `json:"client_id"`
	AuthURI                 string `json:"auth_uri"`
	TokenURI                string `json:"token_uri"`
	AuthProviderX509CertURL string `json:"auth_provider_x509_cert_url"`
	ClientX509CertURL       string `json:"client_x509_cert_url"`
	UniverseDomain          string `json:"universe_domain"`
}

// NewServiceAccountJSON makes a service account file as the Firebase console hands it out. No server trusts it yet.
func NewServiceAccountJSON(project string) []byte {
	key, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		panic("fcmtest: " + err.Error())
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic("fcmtest: " + err.Error())
	}
	const idSize = 20
	id := make([]byte, idSize)
	_, _ = rand.Read(id)
	email := "firebase-adminsdk@" + project + ".iam.gserviceaccount.com"
	content, err := json.MarshalIndent(file{
		Type: "service_account", ProjectID: project, PrivateKeyID: hex.EncodeToString(id),
		PrivateKey:  string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		ClientEmail: email, ClientID: "100000000000000000001",
		AuthURI: "https://accounts.google.com/o/oauth2/auth", TokenURI: tokenURI,
		AuthProviderX509CertURL: "https://www.googleapis.com/oauth2/v1/certs",
		ClientX509CertURL:       "https://www.googleapis.com/robot/v1/metadata/x509/" + email,
		UniverseDomain:          "googleapis.com",
	}, "", "  ")
	if err != nil {
		panic("fcmtest: " + err.Error())
	}
	return content
}

// ServiceAccountJSON makes a service account file of the server's project and lets it sign in.
func (s *Server) ServiceAccountJSON() []byte {
	content := NewServiceAccountJSON(s.options.Project)
	if err := s.TrustServiceAccount(content); err != nil {
		panic("fcmtest: " + err.Error())
	}
	return content
}

// TrustServiceAccount lets a service account sign in, as Google does with one that was made in the project.
func (s *Server) TrustServiceAccount(content []byte) error {
	var account file
	if err := json.Unmarshal(content, &account); err != nil {
		return fmt.Errorf("read the service account: %w", err)
	}
	block, _ := pem.Decode([]byte(account.PrivateKey))
	if block == nil {
		return errors.New("the service account's private_key is not in PEM form")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return fmt.Errorf("read the service account's private_key: %w", err)
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return errors.New("the service account's private_key is not an RSA key")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accounts[account.PrivateKeyID] = trusted{email: account.ClientEmail, public: &key.PublicKey}
	return nil
}
