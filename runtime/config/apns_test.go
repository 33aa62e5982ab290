package config_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ens-operator/ens-operator/runtime/config"
)

// topicsByOpenSSL is what OpenSSL 3 makes of an extension as Apple's certificates have it: ASN1:SEQUENCE with
// UTF8String:com.example.mail, SEQWRAP,UTF8String:app, UTF8String:com.example.mail.voip, SEQWRAP,UTF8String:voip.
const topicsByOpenSSL = "MDgMEGNvbS5leGFtcGxlLm1haWwwBQwDYXBwDBVjb20uZXhhbXBsZS5tYWlsLnZvaXAwBgwEdm9pcA=="

// issued is a certificate as it is read, with extensions of Apple's.
func issued(t testing.TB, uid string, extensions map[int][]byte) *x509.Certificate {
	t.Helper()
	certificate := &x509.Certificate{}
	if uid != "" {
		certificate.Subject.Names = []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}, Value: uid}}
	}
	for number, value := range extensions {
		certificate.Extensions = append(certificate.Extensions,
			pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 6, 3, number}, Value: value})
	}
	return certificate
}

func TestWhatAPushCertificateSaysIsRead(t *testing.T) {
	t.Parallel()
	topics, err := base64.StdEncoding.DecodeString(topicsByOpenSSL)
	if err != nil {
		t.Fatal(err)
	}
	const mail = "com.example.mail"
	tests := map[string]struct {
		uid        string
		extensions map[int][]byte
		want       config.PushCertificate
		isDamaged  bool
	}{
		"nothing":                     {want: config.PushCertificate{}},
		"its only topic":              {uid: mail, want: config.PushCertificate{Topics: []string{mail}}},
		"the sandbox":                 {uid: mail, extensions: map[int][]byte{1: {5, 0}}, want: config.PushCertificate{Topics: []string{mail}, Sandbox: true}},
		"production":                  {uid: mail, extensions: map[int][]byte{2: {5, 0}}, want: config.PushCertificate{Topics: []string{mail}, Production: true}},
		"both environments":           {extensions: map[int][]byte{1: {5, 0}, 2: {5, 0}}, want: config.PushCertificate{Sandbox: true, Production: true}},
		"several topics":              {uid: "com.example", extensions: map[int][]byte{6: topics}, want: config.PushCertificate{Topics: []string{mail, mail + ".voip"}}},
		"a list that is cut":          {uid: mail, extensions: map[int][]byte{6: topics[:len(topics)-3]}, isDamaged: true},
		"a list with something after": {uid: mail, extensions: map[int][]byte{6: append(slices.Clone(topics), 5, 0)}, isDamaged: true},
		"a list of nothing":           {uid: mail, extensions: map[int][]byte{6: {0x30, 0}}, isDamaged: true},
		"no list":                     {uid: mail, extensions: map[int][]byte{6: nil}, isDamaged: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := config.ReadPushCertificate(issued(t, test.uid, test.extensions))
			if (err != nil) != test.isDamaged || got.Production != test.want.Production || got.Sandbox != test.want.Sandbox || !slices.Equal(got.Topics, test.want.Topics) {
				t.Errorf("got %+v, %v, want %+v", got, err, test.want)
			}
		})
	}
}

// A certificate as it comes over the wire has the name's attributes where ReadPushCertificate looks for them.
func TestTheOnlyTopicIsReadOutOfARealCertificate(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := issued(t, "", nil)
	template.Subject.ExtraNames = []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}, Value: "com.example.mail"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := config.ReadPushCertificate(certificate); err != nil || !slices.Equal(got.Topics, []string{"com.example.mail"}) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func FuzzPushTopics(f *testing.F) {
	topics, err := base64.StdEncoding.DecodeString(topicsByOpenSSL)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(topics)
	f.Add([]byte{0x30, 0})
	f.Add([]byte{0x30, 0x80, 0, 0})
	f.Fuzz(func(t *testing.T, der []byte) {
		got, err := config.ReadPushCertificate(issued(t, "", map[int][]byte{6: der}))
		if err == nil && len(got.Topics) == 0 {
			t.Error("a list was read that is empty")
		}
		if err := got.Serves([]string{"com.example.mail"}, config.PushProduction); err != nil && strings.ContainsAny(err.Error(), "\r\n\x00") {
			t.Errorf("the error is not one line: %q", err)
		}
	})
}

func TestLoadReadsAKeyOrACertificateOfApple(t *testing.T) {
	t.Parallel()
	c := sample()
	apple(func(a *config.APNs) { a.TeamID, a.KeyID, a.Certificate = "", "", true })(&c)
	set := sampleFiles(t).with(config.FileName, render(t, c)).with("push/apple/key.p8", nil).
		with("push/apple/certificate.pfx", []byte("the certificate"))
	if _, err := config.Load(set.write(t, t.TempDir())); err == nil || !strings.Contains(err.Error(), "want the password of the APNs certificate of push provider apple") {
		t.Errorf("without a password: %v", err)
	}
	set = set.with(filepath.Join("push/apple", config.APNsCertificatePasswordFile), []byte("s3cret"))
	loaded, err := config.Load(set.write(t, t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	file := loaded.PushCredentials[config.PushCredential("apple", config.APNsCertificateFile)]
	password := loaded.PushCredentials[config.PushCredential("apple", config.APNsCertificatePasswordFile)]
	if file.RevealString() != "the certificate" || password.RevealString() != "s3cret" {
		t.Error("certificate and password are not those in the files")
	}
}
