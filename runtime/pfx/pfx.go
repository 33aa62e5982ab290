// Package pfx opens PKCS#12 files (.pfx, .p12) of administrators and devices: one private key, its certificate and the chain. The
// files are foreign bytes, and what opening one costs is bounded before it is paid.
package pfx

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/ens-operator/ens-operator/runtime/secret"
)

const (
	// MaxFile is more than a key of 4,096 bits and a chain of certificates need, in bytes.
	MaxFile = 32 << 10
	// maxChain bounds the certificates of a file: the own one, intermediates, a root.
	maxChain = 8
)

// The reasons why a file is refused. None tells anything of it.
var (
	ErrTooLarge  = errors.New("the PKCS#12 file has more than 32 KiB")
	ErrWork      = errors.New("the PKCS#12 file is none, or opening it would cost more than 600,000 iterations: export it anew")
	ErrNoKey     = errors.New("the PKCS#12 file holds no private key outside of its encrypted certificates: export it anew, with the key")
	ErrPassword  = errors.New("the password does not open the PKCS#12 file")
	ErrContent   = errors.New("the PKCS#12 file does not hold one private key with its certificate and at most 7 others")
	ErrForeign   = errors.New("the private key in the PKCS#12 file is not its certificate's")
	ErrUnusedKey = errors.New("the private key in the PKCS#12 file cannot sign")
)

// opening lets one file be opened at a time, so that many expensive ones cost one core at most.
var opening = make(chan struct{}, 1)

// Open takes the certificate with its key and chain out of a PKCS#12 file. Leaf is set. The errors are those above.
func Open(file []byte, password secret.Value) (tls.Certificate, error) {
	if len(file) > MaxFile {
		return tls.Certificate{}, ErrTooLarge
	}
	if !affordable(file) {
		return tls.Certificate{}, ErrWork
	}
	ordered, ok := keyFirst(file, password.RevealString())
	if !ok {
		return tls.Certificate{}, ErrNoKey
	}
	opening <- struct{}{}
	defer func() { <-opening }()
	key, leaf, others, err := pkcs12.DecodeChain(ordered, password.RevealString())
	if errors.Is(err, pkcs12.ErrIncorrectPassword) || errors.Is(err, pkcs12.ErrDecryption) {
		return tls.Certificate{}, ErrPassword
	}
	if err != nil || len(others) >= maxChain {
		return tls.Certificate{}, ErrContent
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return tls.Certificate{}, ErrUnusedKey
	}
	if !matches(signer, leaf) {
		return tls.Certificate{}, ErrForeign
	}
	opened := tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
	for _, other := range others {
		opened.Certificate = append(opened.Certificate, other.Raw)
	}
	return opened, nil
}

// File is a PKCS#12 file with its password, as administrators bring them.
type File struct{ Content, Password secret.Value }

// Open opens the file. The end of the line that editors put after a password is no part of it.
func (f File) Open() (tls.Certificate, error) {
	password := secret.New(bytes.Clone(bytes.TrimRight(f.Password.Reveal(), "\r\n")))
	defer password.Wipe()
	return Open(f.Content.Reveal(), password)
}

// matches reports whether the key is the certificate's.
func matches(key crypto.Signer, certificate *x509.Certificate) bool {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(certificate.PublicKey)
}
