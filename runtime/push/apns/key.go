package apns

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"

	"github.com/ens-operator/ens-operator/runtime/secret"
)

const (
	// maxKeyFile is far above the 257 bytes of a .p8 file as Apple hands it out.
	maxKeyFile = 8 << 10
	// keyBlock is the PEM type of PKCS#8, the only one Apple uses.
	keyBlock = "PRIVATE KEY"
)

// The reasons why a key is refused. None of them quotes the file.
var (
	errKeyEmpty    = errors.New("the APNs key is empty: put the content of the .p8 file from Apple's developer account there")
	errKeyTooLarge = errors.New("the APNs key is larger than 8 KiB: expected one .p8 file from Apple's developer account")
	errKeyNotPEM   = errors.New("the APNs key is not in PEM form: expected the .p8 file as it comes from Apple, which starts with -----BEGIN PRIVATE KEY-----")
	errKeyNotPKCS8 = errors.New("the APNs key is not a PKCS#8 private key: expected the .p8 file as it comes from Apple, not a certificate or a converted key")
	errKeyNotP256  = errors.New("the APNs key is not an ECDSA key on the curve P-256: Apple's authentication keys always are, so this is another key")
	errKeyTrailing = errors.New("the APNs key file holds more than one key: expected one .p8 file alone")
)

// parseKey reads a .p8 file. Only what Apple hands out is accepted: one PEM block with a PKCS#8 key on P-256.
func parseKey(file secret.Value) (*ecdsa.PrivateKey, error) {
	text := file.Reveal()
	switch {
	case len(bytes.TrimSpace(text)) == 0:
		return nil, errKeyEmpty
	case len(text) > maxKeyFile:
		return nil, errKeyTooLarge
	}
	block, rest := pem.Decode(text)
	if block == nil {
		return nil, errKeyNotPEM
	}
	if len(bytes.TrimSpace(rest)) != 0 {
		return nil, errKeyTrailing
	}
	if block.Type != keyBlock {
		return nil, errKeyNotPKCS8
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		// The parser's own words could quote the file.
		return nil, errKeyNotPKCS8
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errKeyNotP256
	}
	return key, nil
}
