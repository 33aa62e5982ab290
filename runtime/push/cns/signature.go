package cns

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"sync"
	"time"

	"github.com/smallstep/pkcs7"
	"k8s.io/utils/clock"
)

const (
	// scheme is the authentication scheme of the Authorization header: a CMS signature over the URL's path (C-02).
	scheme = "CMSURL`1 "
	// signatureLife is for how long a signature is sent. It holds the time it was made, but nothing of a request, so to
	// make one for each would cost a private-key operation for nothing.
	signatureLife = time.Minute
)

// signer signs the URL's path, as a detached CMS signature (RFC 5652) with SHA-256.
type signer struct {
	certificate tls.Certificate
	path        string
	clock       clock.PassiveClock

	mu   sync.Mutex
	text string
	made time.Time
}

func newSigner(certificate tls.Certificate, path string, c clock.PassiveClock) *signer {
	return &signer{certificate: certificate, path: path, clock: c}
}

// authorization is the value of the Authorization header.
func (s *signer) authorization() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	if s.text != "" && now.Sub(s.made).Abs() < signatureLife {
		return s.text, nil
	}
	signature, err := s.sign()
	if err != nil {
		return "", fmt.Errorf("sign the path: %w", err)
	}
	s.text, s.made = scheme+base64.StdEncoding.EncodeToString(signature), now
	return s.text, nil
}

func (s *signer) sign() ([]byte, error) {
	signed, err := pkcs7.NewSignedData([]byte(s.path))
	if err != nil {
		return nil, err
	}
	signed.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	if err := signed.AddSigner(s.certificate.Leaf, s.certificate.PrivateKey, pkcs7.SignerInfoConfig{}); err != nil {
		return nil, err
	}
	for _, der := range s.certificate.Certificate[1:] {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		signed.AddCertificate(certificate)
	}
	signed.Detach()
	return signed.Finish()
}
