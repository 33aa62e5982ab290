package pfx_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/ens-operator/ens-operator/runtime/pfx"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

const password = "s3cret"

// pair is a key with a certificate of its own making.
func pair(t testing.TB) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CN"}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return key, certificate
}

func encode(t testing.TB, encoder *pkcs12.Encoder, key any, certificate *x509.Certificate, chain ...*x509.Certificate) []byte {
	t.Helper()
	file, err := encoder.Encode(key, certificate, chain, password)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func TestFilesOfAllProgramsOpen(t *testing.T) {
	t.Parallel()
	key, certificate := pair(t)
	_, other := pair(t)
	for name, encoder := range map[string]*pkcs12.Encoder{
		"as today": pkcs12.Modern2023, "as of 2026": pkcs12.Modern2026, "with Triple DES": pkcs12.LegacyDES, "with RC2": pkcs12.LegacyRC2,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opened, err := pfx.Open(encode(t, encoder, key, certificate, other), secret.FromString(password))
			if err != nil {
				t.Fatal(err)
			}
			if !key.Equal(opened.PrivateKey) || !opened.Leaf.Equal(certificate) ||
				len(opened.Certificate) != 2 || !bytes.Equal(opened.Certificate[1], other.Raw) {
				t.Error("it does not hold what was put in")
			}
		})
	}
}

func TestWhatCannotBeUsedIsRefusedWithTheReason(t *testing.T) {
	t.Parallel()
	key, certificate := pair(t)
	foreign, _ := pair(t)
	good := encode(t, pkcs12.Modern2023, key, certificate)
	trust, err := pkcs12.Modern2023.EncodeTrustStore([]*x509.Certificate{certificate}, password)
	if err != nil {
		t.Fatal(err)
	}
	chain := make([]*x509.Certificate, 8)
	for i := range chain {
		_, chain[i] = pair(t)
	}
	tests := map[string]struct {
		file     []byte
		password string
		want     error
	}{
		"another password":         {good, "secret", pfx.ErrPassword},
		"no password":              {good, "", pfx.ErrPassword},
		"nothing":                  {nil, password, pfx.ErrWork},
		"no PKCS#12":               {[]byte("-----BEGIN CERTIFICATE-----"), password, pfx.ErrWork},
		"cut short":                {good[:len(good)/2], password, pfx.ErrWork},
		"very large":               {make([]byte, pfx.MaxFile+1), password, pfx.ErrTooLarge},
		"certificates alone":       {trust, password, pfx.ErrNoKey},
		"another's key":            {encode(t, pkcs12.Modern2023, foreign, certificate), password, pfx.ErrForeign},
		"a very long chain":        {encode(t, pkcs12.Modern2023, key, certificate, chain...), password, pfx.ErrContent},
		"a million iterations":     {encode(t, pkcs12.Modern2023.WithIterations(1_000_000), key, certificate), password, pfx.ErrWork},
		"as many iterations as ok": {encode(t, pkcs12.Modern2023.WithIterations(10_000), key, certificate), password, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := pfx.Open(test.file, secret.FromString(test.password)); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

func FuzzOpen(f *testing.F) {
	key, certificate := pair(f)
	for _, encoder := range []*pkcs12.Encoder{pkcs12.Modern2023, pkcs12.LegacyRC2} {
		f.Add(encode(f, encoder, key, certificate), password)
	}
	f.Fuzz(func(t *testing.T, file []byte, password string) {
		opened, err := pfx.Open(file, secret.FromString(password))
		if err == nil && (opened.Leaf == nil || opened.PrivateKey == nil) {
			t.Error("opened without a certificate or a key")
		}
	})
}
