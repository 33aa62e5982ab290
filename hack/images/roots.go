package main

import (
	"bytes"
	"encoding/pem"
	"errors"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// rootCertificates are those of Mozilla's programme, as PEM. They come from a module that go.sum pins, and not from the
// machine that builds, so that every machine makes the same image; and they are a file of the image, not of the program,
// so that an administrator can mount others in its place. A root that is trusted for older certificates only is left
// out: the file cannot say so.
func rootCertificates() ([]byte, error) {
	var text bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint != nil {
			continue
		}
		if err := pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}); err != nil {
			return nil, err
		}
	}
	if text.Len() == 0 {
		return nil, errors.New("there are no root certificates")
	}
	return text.Bytes(), nil
}
