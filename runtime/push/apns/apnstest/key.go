package apnstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// Key is an authentication key as Apple's developer account hands it out.
type Key struct {
	// P8 is the content of the .p8 file.
	P8     []byte
	KeyID  string
	TeamID string
}

// The ids of generated keys.
const (
	sampleTeamID = "ENSTEAM001"
	sampleKeyID  = "ENSKEY0001"
)

// NewKey generates a key. No server trusts it yet.
func NewKey() Key {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic("apnstest: " + err.Error())
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic("apnstest: " + err.Error())
	}
	return Key{
		P8:    pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		KeyID: sampleKeyID, TeamID: sampleTeamID,
	}
}

// NewKey generates a key and trusts it.
func (s *Server) NewKey() Key {
	key := NewKey()
	if err := s.TrustKey(key); err != nil {
		panic("apnstest: " + err.Error())
	}
	return key
}

// TrustKey accepts provider tokens signed with key, as Apple does for a key that was made in a developer account.
func (s *Server) TrustKey(key Key) error {
	block, _ := pem.Decode(key.P8)
	if block == nil {
		return errors.New("the APNs key is not in PEM form")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return fmt.Errorf("read the APNs key: %w", err)
	}
	private, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return errors.New("the APNs key is not an ECDSA key")
	}
	s.Trust(key.TeamID, key.KeyID, &private.PublicKey)
	return nil
}

// Trust accepts provider tokens of the team that are signed with the key of this id.
func (s *Server) Trust(teamID, keyID string, public *ecdsa.PublicKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[keyID] = trusted{teamID: teamID, public: public}
}
