package cnstest

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"strings"
	"time"

	"github.com/smallstep/pkcs7"
)

const (
	scheme = "CMSURL`1 "
	// maxAge is how old a signature may be.
	maxAge = 10 * time.Minute
	// maxSignature is far above a signature with a chain of certificates, in bytes.
	maxSignature = 32 << 10
)

var (
	errNoSignature = errors.New("the Authorization field is no " + scheme + "with base64")
	errForm        = errors.New("it is not a detached CMS signature of one signer with SHA-256")
	errOld         = errors.New("the signature is older than ten minutes, or of the future")
)

// checkSignature verifies that an Authorization field holds a detached CMS signature over the path, by a certificate
// that the authority issued.
func checkSignature(header, path string, trusted *x509.CertPool, now time.Time) error {
	encoded, found := strings.CutPrefix(header, scheme)
	if !found || len(encoded) > maxSignature {
		return errNoSignature
	}
	der, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return errNoSignature
	}
	signed, err := pkcs7.Parse(der)
	if err != nil || len(signed.Content) != 0 || len(signed.Signers) != 1 ||
		!signed.Signers[0].DigestAlgorithm.Algorithm.Equal(pkcs7.OIDDigestAlgorithmSHA256) {
		return errForm
	}
	var made time.Time
	if err := signed.UnmarshalSignedAttribute(pkcs7.OIDAttributeSigningTime, &made); err != nil {
		return errForm
	}
	if now.Sub(made) > maxAge || made.Sub(now) > maxAge {
		return errOld
	}
	signed.Content = []byte(path)
	return signed.VerifyWithChainAtTime(trusted, now)
}
