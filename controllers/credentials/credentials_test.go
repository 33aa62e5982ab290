package credentials_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/controllers/credentials"
	"github.com/ens-operator/ens-operator/runtime/push/cns/cnstest"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

func keyPEM(t testing.TB, key crypto.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func ecKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func rsaKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// check compares an error with what it must say; empty is no error. No error may quote what was read.
func check(t *testing.T, err error, says string, data []byte) {
	t.Helper()
	switch {
	case says == "" && err != nil:
		t.Errorf("refused: %v", err)
	case says != "" && (err == nil || !strings.Contains(err.Error(), says)):
		t.Errorf("got %v, want an error that says %q", err, says)
	}
	if err != nil && len(data) > 100 && strings.Contains(err.Error(), string(data[60:100])) {
		t.Errorf("the error quotes the credential: %v", err)
	}
}

func TestParseAPNsKey(t *testing.T) {
	t.Parallel()
	good := keyPEM(t, ecKey(t, elliptic.P256()))
	for name, c := range map[string]struct {
		data []byte
		says string
	}{
		"a key of Apple":       {good, ""},
		"with a line end more": {slices.Concat(good, []byte("\n")), ""},
		"empty":                {nil, "no PEM block"},
		"text":                 {[]byte("hello"), "no PEM block"},
		"of another curve":     {keyPEM(t, ecKey(t, elliptic.P384())), "P-256"},
		"an RSA key":           {keyPEM(t, rsaKey(t)), "P-256"},
		"a certificate":        {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), "PKCS #8"},
		"a PEM block of junk":  {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}), "does not hold a PKCS #8 key"},
		"two keys":             {slices.Concat(good, good), "something follows"},
		"far too large":        {[]byte(strings.Repeat("x", 5000)), "at most"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key, err := credentials.ParseAPNsKey(c.data)
			check(t, err, c.says, c.data)
			if err == nil && len(key.PublicKeySHA256) != 64 {
				t.Errorf("the fingerprint is %q", key.PublicKeySHA256)
			}
		})
	}
}

func serviceAccount(t testing.TB) map[string]any {
	t.Helper()
	return map[string]any{
		"type": "service_account", "project_id": "example-mail", "private_key_id": "1", "private_key": string(keyPEM(t, rsaKey(t))),
		"client_email": "push@example-mail.iam.gserviceaccount.com", "client_id": "1",
		"auth_uri": "https://accounts.google.com/o/oauth2/auth", "token_uri": "https://oauth2.googleapis.com/token",
		"universe_domain": "googleapis.com",
	}
}

func TestParseServiceAccount(t *testing.T) {
	t.Parallel()
	good := serviceAccount(t)
	for name, c := range map[string]struct {
		field string
		value any
		says  string
	}{
		"as Google makes it":         {"type", "service_account", ""},
		"a user's":                   {"type", "authorized_user", "its type"},
		"one that runs a program":    {"type", "external_account", "its type"},
		"another token_uri":          {"token_uri", "https://evil.example.com/token", "token_uri"},
		"a token_uri that begins so": {"token_uri", "https://oauth2.googleapis.com/token.evil.example.com", "token_uri"},
		"a token_uri of long ago":    {"token_uri", "https://accounts.google.com/o/oauth2/token", "make a new key"},
		"of another universe":        {"universe_domain", "evil.example.com", "universe_domain"},
		"no project":                 {"project_id", "", "project_id"},
		"a person's address":         {"client_email", "somebody@example.com", "client_email"},
		"an address with a line":     {"client_email", "a\n@x.iam.gserviceaccount.com", "client_email"},
		"an elliptic key":            {"private_key", string(keyPEM(t, ecKey(t, elliptic.P256()))), "RSA"},
		"no key":                     {"private_key", "", "private_key"},
		"a number for a key":         {"private_key", 1, "no JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := maps.Clone(good)
			file[c.field] = c.value
			data, err := json.Marshal(file)
			if err != nil {
				t.Fatal(err)
			}
			account, err := credentials.ParseServiceAccount(data)
			check(t, err, c.says, data)
			if err == nil && (account.ProjectID != "example-mail" || account.ClientEmail != good["client_email"] || len(account.PublicKeySHA256) != 64) {
				t.Errorf("got %+v", account)
			}
		})
	}
	_, err := credentials.ParseServiceAccount([]byte(strings.Repeat(" ", 20_000)))
	check(t, err, "at most", nil)
}

func TestAccessKeysOfAmazon(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		"AKIAIOSFODNN7EXAMPLE":            "",
		"AKIAIOSFODNN7EXAMPLE\n":          "",
		"ASIAIOSFODNN7EXAMPLE":            "begin with AKIA",
		"akiaiosfodnn7example":            "begin with AKIA",
		"AKIAIOSFODNN7EXAMPLE\nsomething": "begin with AKIA",
		"":                                "begin with AKIA",
	} {
		id, err := credentials.ParseAccessKeyID([]byte(text))
		check(t, err, says, []byte(text))
		if err == nil && id != "AKIAIOSFODNN7EXAMPLE" {
			t.Errorf("got %q", id)
		}
	}
	const secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	for text, says := range map[string]string{
		secret: "", secret + "\r\n": "", secret[1:]: "40 or more", secret + " " + secret: "40 or more", "": "40 or more",
	} {
		check(t, credentials.CheckSecretAccessKey([]byte(text)), says, []byte(text))
	}
}

// certificate makes a certificate of its own making and its key.
func certificate(t testing.TB, notAfter time.Time, names ...string) (certPEM, key []byte) {
	t.Helper()
	private := ecKey(t, elliptic.P256())
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: names, NotBefore: notAfter.Add(-time.Hour), NotAfter: notAfter}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), keyPEM(t, private)
}

func TestParseBundle(t *testing.T) {
	t.Parallel()
	first, later := time.Unix(2_000_000_000, 0), time.Unix(3_000_000_000, 0)
	a, key := certificate(t, later)
	b, _ := certificate(t, first)
	bundle, err := credentials.ParseBundle(slices.Concat(a, b))
	if err != nil || bundle.Certificates != 2 || !bundle.NotAfter.Equal(first) || !bundle.LastNotAfter.Equal(later) {
		t.Errorf("got %+v, %v", bundle, err)
	}
	for says, data := range map[string][]byte{
		"no certificate in PEM":             []byte("hello"),
		"something else than certificates":  slices.Concat(a, key),
		"number 1 cannot be read":           pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}),
		"may have":                          make([]byte, 400_000),
		"1 of its 2 PEM blocks are damaged": slices.Concat(a, bytes.Replace(b, []byte("\n-----END"), []byte("!\n-----END"), 1)),
		"1 of its 3 PEM blocks are damaged": slices.Concat(b[:len(b)/2], []byte("\n"), a, b),
	} {
		_, err := credentials.ParseBundle(data)
		check(t, err, says, data)
	}
}

func TestParseServerCertificate(t *testing.T) {
	t.Parallel()
	cert, key := certificate(t, time.Unix(2_000_000_000, 0), "ens.example.com", "*.internal.example.com")
	_, another := certificate(t, time.Unix(2_000_000_000, 0), "x")
	parsed, err := credentials.ParseServerCertificate(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	if missed := parsed.Misses([]string{"ens.example.com", "a.internal.example.com"}); missed != "" {
		t.Errorf("it misses %s", missed)
	}
	if missed := parsed.Misses([]string{"ens.example.com", "other.example.com"}); missed != "other.example.com" {
		t.Errorf("it misses %q", missed)
	}
	for says, pair := range map[string][2][]byte{
		"does not belong":       {cert, another},
		"no certificate in PEM": {key, key},
		"cannot be read or":     {cert, []byte("x")},
		"a chain may have":      {make([]byte, 100_000), key},
		"it may have":           {cert, make([]byte, 20_000)},
	} {
		_, err := credentials.ParseServerCertificate(pair[0], pair[1])
		if says == "no certificate in PEM" {
			says = "something else than certificates"
		}
		check(t, err, says, pair[1])
	}
}

func FuzzParseAPNsKey(f *testing.F) {
	f.Add(keyPEM(f, ecKey(f, elliptic.P256())))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----"))
	f.Fuzz(func(t *testing.T, data []byte) {
		key, err := credentials.ParseAPNsKey(data)
		if (err == nil) != (len(key.PublicKeySHA256) == 64) {
			t.Errorf("fingerprint %q with error %v", key.PublicKeySHA256, err)
		}
	})
}

func FuzzParseServiceAccount(f *testing.F) {
	seed, err := json.Marshal(serviceAccount(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"type":"service_account"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		account, err := credentials.ParseServiceAccount(data)
		if err == nil && !strings.HasSuffix(account.ClientEmail, ".gserviceaccount.com") {
			t.Errorf("accepted the address %q", account.ClientEmail)
		}
	})
}

func FuzzParseCertificates(f *testing.F) {
	cert, key := certificate(f, time.Unix(2_000_000_000, 0), "ens.example.com")
	f.Add(cert, key)
	f.Add([]byte("x"), []byte("y"))
	f.Fuzz(func(t *testing.T, data, key []byte) {
		bundle, err := credentials.ParseBundle(data)
		if (err == nil) != (bundle.Certificates > 0) {
			t.Errorf("%d certificates with error %v", bundle.Certificates, err)
		}
		if parsed, err := credentials.ParseServerCertificate(data, key); err == nil {
			parsed.Misses([]string{"ens.example.com", "*", ""})
		}
	})
}

func TestParsePKCS12(t *testing.T) {
	t.Parallel()
	notAfter := time.Now().Add(time.Hour).Truncate(time.Second)
	authority := cnstest.NewAuthority()
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := authority.PFX("CN", "s3cret", notAfter)
	for name, c := range map[string]struct {
		file           []byte
		password, says string
	}{
		"an RSA key":       {good, "s3cret", ""},
		"an elliptic key":  {authority.PFXFor(ecKey(t, elliptic.P256()), "CN", "s3cret", notAfter), "s3cret", ""},
		"another password": {good, "secret", "password"},
		"a short key":      {authority.PFXFor(weak, "CN", "s3cret", notAfter), "s3cret", "less than 2048 bits"},
		"an Edwards key":   {authority.PFXFor(edwards, "CN", "s3cret", notAfter), "s3cret", "neither an RSA nor an elliptic"},
		"a key in PEM":     {keyPEM(t, ecKey(t, elliptic.P256())), "s3cret", "PKCS#12"},
		"a large file":     {make([]byte, 40_000), "s3cret", "32 KiB"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			told, err := credentials.ParsePKCS12(c.file, secret.FromString(c.password))
			check(t, err, c.says, c.file)
			if err == nil && (told.CommonName != "CN" || !told.NotAfter.Equal(notAfter) || len(told.PublicKeySHA256) != 64) {
				t.Errorf("got %+v", told)
			}
		})
	}
}
