package credential_test

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

const alice = "alice@example.com"

// token is as long as Entra ID's are, with alice's name in its claims.
var token = "eyJhbGciOiJub25lIn0." + base64.RawURLEncoding.EncodeToString([]byte(`{"aud":"https://outlook.office365.com","upn":"`+alice+
	`","scp":"`+strings.Repeat("EWS.AccessAsUser.All ", 60)+`"}`)) + ".c2lnbmF0dXJl"

// chunked encrypts in blocks of what fits one.
func chunked(t testing.TB, plain string) string {
	t.Helper()
	var blocks []byte
	for part := range slices.Chunk([]byte(plain), credential.KeyBits/8-11) {
		block, err := base64.StdEncoding.DecodeString(encrypt(t, part))
		if err != nil {
			t.Fatal(err)
		}
		blocks = append(blocks, block...)
	}
	return base64.StdEncoding.EncodeToString(blocks)
}

// split seals under a data key as a device does.
func split(t testing.TB, dataKey []byte, plain string, binding credential.Binding) string {
	t.Helper()
	block, err := aes.NewCipher(dataKey)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	nonce := make([]byte, aead.NonceSize())
	_, _ = rand.Read(nonce)
	additional := fmt.Sprintf("%s|%s|%d", hex.EncodeToString(binding.UserHash[:]), binding.DeviceID, binding.Sequence)
	return base64.StdEncoding.EncodeToString(aead.Seal(nonce, nonce, []byte(plain), []byte(additional)))
}

func oauth(token string) string {
	return `{"oauthAccessToken":"` + token + `","oauthExpires":"2026-11-25T21:00:00Z"}`
}

func TestLongCredentialsComeInBlocks(t *testing.T) {
	t.Parallel()
	c, err := decrypt(credential.RSAPKCS1Chunked, credential.OAuth, chunked(t, oauth(token)))
	if err != nil {
		t.Fatal(err)
	}
	if c.Token.RevealString() != token || !c.Expires.Equal(time.Date(2026, 11, 25, 21, 0, 0, 0, time.UTC)) {
		t.Errorf("got a token of %d characters that expires at %s", len(c.Token.Reveal()), c.Expires)
	}
	login := c.Login()
	if login.RevealString() != alice {
		t.Errorf("its login name is %q", login.Reveal())
	}
	if c, err = decrypt(credential.RSAPKCS1Chunked, credential.Basic, chunked(t, "alice:"+strings.Repeat("p", 1000))); err != nil || len(c.Password.Reveal()) != 1000 {
		t.Errorf("a long password: %v", err)
	}
	tooLong := chunked(t, "alice:"+strings.Repeat("p", 245*credential.MaxBlocks))
	swapped, err := base64.StdEncoding.DecodeString(chunked(t, oauth(token)))
	if err != nil {
		t.Fatal(err)
	}
	for name, payload := range map[string]string{
		"more blocks than are taken":    tooLong,
		"half a block":                  base64.StdEncoding.EncodeToString(swapped[:len(swapped)-100]),
		"blocks in another order":       base64.StdEncoding.EncodeToString(append(swapped[256:512:512], swapped[:256]...)),
		"a token that breaks headers":   chunked(t, `{"oauthAccessToken":"a\r\nb"}`),
		"a token with a blank":          chunked(t, `{"oauthAccessToken":"a b"}`),
		"no token":                      chunked(t, `{"oauthExpires":"2026-11-25T21:00:00Z"}`),
		"an expiry that is no time":     chunked(t, `{"oauthAccessToken":"abc","oauthExpires":"tomorrow"}`),
		"a password in a token's place": chunked(t, `{"username":"alice","password":"s3cret"}`),
	} {
		if _, err := decrypt(credential.RSAPKCS1Chunked, credential.OAuth, payload); !errors.Is(err, credential.ErrUndecryptable) {
			t.Errorf("%s: got error %v", name, err)
		}
	}
}

func TestASplitCredentialIsBoundToUserDeviceAndSequence(t *testing.T) {
	t.Parallel()
	dataKey := bytes.Repeat([]byte{42}, 32)
	bound := credential.Binding{UserHash: sha256.Sum256([]byte(alice)), DeviceID: "D1", Sequence: 7}
	payload := credential.Payload{
		Scheme: credential.RSASplit, AuthType: credential.OAuth, Credentials: split(t, dataKey, oauth(token), bound),
		WrappedKey: encrypt(t, dataKey), Binding: bound,
	}
	c, key, err := credential.Decrypt(userKey(), payload)
	if err != nil || c.Token.RevealString() != token || !bytes.Equal(key.Reveal(), dataKey) {
		t.Fatalf("got a token of %d characters and a key of %d bytes: %v", len(c.Token.Reveal()), len(key.Reveal()), err)
	}
	for name, change := range map[string]func(*credential.Payload){
		"another user's":          func(p *credential.Payload) { p.Binding.UserHash[0]++ },
		"another device's":        func(p *credential.Payload) { p.Binding.DeviceID = "D2" },
		"of another time":         func(p *credential.Payload) { p.Binding.Sequence = 8 },
		"with a short key":        func(p *credential.Payload) { p.WrappedKey = encrypt(t, dataKey[:16]) },
		"without a key":           func(p *credential.Payload) { p.WrappedKey = "" },
		"under another key":       func(p *credential.Payload) { p.WrappedKey = encrypt(t, bytes.Repeat([]byte{43}, 32)) },
		"cut":                     func(p *credential.Payload) { p.Credentials = p.Credentials[:8] },
		"empty":                   func(p *credential.Payload) { p.Credentials = "" },
		"of another authType":     func(p *credential.Payload) { p.AuthType = credential.Basic },
		"of both authTypes":       func(p *credential.Payload) { p.AuthType = credential.OAuthCBA },
		"in one of the RSA forms": func(p *credential.Payload) { p.Scheme = credential.RSAPKCS1Chunked },
	} {
		changed := payload
		change(&changed)
		if _, key, err := credential.Decrypt(userKey(), changed); !errors.Is(err, credential.ErrUndecryptable) || !key.IsZero() {
			t.Errorf("%s: got error %v", name, err)
		}
	}
}

func TestALongCredentialRestsInTwoPlaces(t *testing.T) {
	t.Parallel()
	ring := keyring(t, tenant, keys(1))
	certificate := openCertificate(t, principal(t, alice, pkcs12.Modern2023, "secret"), "secret")
	for name, c := range map[string]credential.Credential{
		"OAuth":           {AuthType: credential.OAuth, Token: secret.FromString(token), Expires: time.Unix(1_790_000_000, 0).UTC()},
		"CBA":             {AuthType: credential.CBA, Certificate: certificate},
		"OAuth and CBA":   {AuthType: credential.OAuthCBA, Token: secret.FromString(token), Certificate: certificate},
		"a long password": basic("alice", strings.Repeat("p", 10_000)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sealed := seal(t, ring, 7, 8, c)
			if length := len(sealed.URL.Reveal()); length >= 500 || sealed.Blob == nil {
				t.Errorf("the URL has %d characters, the blob %d bytes", length, len(sealed.Blob))
			}
			hook, err := ring.ParseWebhook(query(t, sealed))
			if err != nil {
				t.Fatal(err)
			}
			got, err := ring.OpenWebhook(hook, credential.Resting{Key: sealed.Key, Blob: sealed.Blob})
			if err != nil {
				t.Fatal(err)
			}
			if !same(got, c) {
				t.Error("another credential came back")
			}
			other := seal(t, ring, 7, 9, c)
			for what, resting := range map[string]credential.Resting{
				"no blob": {Key: sealed.Key}, "another blob": {Key: sealed.Key, Blob: other.Blob}, "another key": {Key: other.Key, Blob: sealed.Blob},
			} {
				if _, err := ring.OpenWebhook(hook, resting); !errors.Is(err, credential.ErrSealBroken) {
					t.Errorf("with %s: got error %v", what, err)
				}
			}
		})
	}
}

func same(a, b credential.Credential) bool {
	return a.AuthType == b.AuthType && a.Username.Equal(b.Username) && a.Password.Equal(b.Password) && a.Token.Equal(b.Token) &&
		a.Expires.Equal(b.Expires) && a.Certificate.Key.Equal(b.Certificate.Key) &&
		slices.EqualFunc(a.Certificate.Chain, b.Certificate.Chain, secret.Value.Equal)
}

func TestAnUpdateTakesThePlaceOfTheCredential(t *testing.T) {
	t.Parallel()
	ring := keyring(t, tenant, keys(1))
	dataKey := bytes.Repeat([]byte{42}, 32)
	bound := credential.Binding{UserHash: sha256.Sum256([]byte(alice)), DeviceID: "D1", Sequence: 8}
	first := credential.Credential{AuthType: credential.OAuth, Token: secret.FromString("first")}
	sealed, err := ring.SealIntoURL(base, 7, 8, first, secret.New(bytes.Clone(dataKey)))
	if err != nil {
		t.Fatal(err)
	}
	hook, err := ring.ParseWebhook(query(t, sealed))
	if err != nil {
		t.Fatal(err)
	}
	next, blob, err := ring.OpenUpdate(hook, sealed.Key, credential.OAuth, split(t, dataKey, oauth("second"), bound), bound)
	if err != nil || next.Token.RevealString() != "second" {
		t.Fatalf("got the token %q: %v", next.Token.Reveal(), err)
	}
	if got, err := ring.OpenWebhook(hook, credential.Resting{Key: sealed.Key, Blob: blob}); err != nil || got.Token.RevealString() != "second" {
		t.Errorf("afterwards the token is %q: %v", got.Token.Reveal(), err)
	}
	if got, err := ring.OpenWebhook(hook, credential.Resting{Key: sealed.Key, Blob: sealed.Blob}); err != nil || got.Token.RevealString() != "first" {
		t.Errorf("before it was taken the token is %q: %v", got.Token.Reveal(), err)
	}
	for name, payload := range map[string]string{
		"garbage":                       "AAAA",
		"under another key":             split(t, bytes.Repeat([]byte{43}, 32), oauth("second"), bound),
		"of another sequence":           split(t, dataKey, oauth("second"), credential.Binding{UserHash: bound.UserHash, DeviceID: "D1", Sequence: 9}),
		"a password in a token's place": split(t, dataKey, "alice:s3cret", bound),
	} {
		if _, _, err := ring.OpenUpdate(hook, sealed.Key, credential.OAuth, payload, bound); !errors.Is(err, credential.ErrUndecryptable) {
			t.Errorf("%s: got error %v", name, err)
		}
	}
	inURL := seal(t, ring, 7, 9, basic("alice", "s3cret"))
	if hook, err = ring.ParseWebhook(query(t, inURL)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ring.OpenUpdate(hook, inURL.Key, credential.Basic, split(t, dataKey, "alice:s3cret", bound), bound); !errors.Is(err, credential.ErrUndecryptable) {
		t.Errorf("an update where there is no data key: %v", err)
	}
}

// principal makes a PKCS#12 file as a certificate authority of Active Directory does for a user of that name.
func principal(t testing.TB, name string, encoder *pkcs12.Encoder, password string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pfx, err := encoder.Encode(key, selfSigned(t, key, name), nil, password)
	if err != nil {
		t.Fatal(err)
	}
	return pfx
}

func selfSigned(t testing.TB, key crypto.Signer, name string) *x509.Certificate {
	t.Helper()
	upn, err := asn1.MarshalWithParams(name, "utf8")
	if err != nil {
		t.Fatal(err)
	}
	kind, err := asn1.Marshal(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3})
	if err != nil {
		t.Fatal(err)
	}
	other := contextual(t, append(kind, contextual(t, upn)...)) // otherName, which is [0], holds its value in another [0]
	names, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: other})
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1 << 40), Subject: pkix.Name{CommonName: "a user"}, NotAfter: time.Now().Add(time.Hour),
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: names}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

// contextual wraps DER in [0].
func contextual(t testing.TB, der []byte) []byte {
	t.Helper()
	wrapped, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: der})
	if err != nil {
		t.Fatal(err)
	}
	return wrapped
}

// cba is what the device encrypts for a certificate.
func cba(t testing.TB, pfx []byte, password string) string {
	t.Helper()
	text, err := json.Marshal(map[string]string{"cbaData": base64.StdEncoding.EncodeToString(pfx), "cbaPassword": password})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func openCertificate(t testing.TB, pfx []byte, password string) credential.Certificate {
	t.Helper()
	c, err := decrypt(credential.RSAPKCS1Chunked, credential.CBA, chunked(t, cba(t, pfx, password)))
	if err != nil {
		t.Fatal(err)
	}
	return c.Certificate
}

func TestCertificatesComeInEveryUsualFormOfPKCS12(t *testing.T) {
	t.Parallel()
	for name, encoder := range map[string]*pkcs12.Encoder{
		"as Windows before 2019 and OpenSSL 1 write it": pkcs12.LegacyRC2, "with 3DES": pkcs12.LegacyDES,
		"as OpenSSL 3 and Windows write it": pkcs12.Modern2023, "with the integrity check of 2026": pkcs12.Modern2026,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := decrypt(credential.RSAPKCS1Chunked, credential.CBA, chunked(t, cba(t, principal(t, alice, encoder, "s3cret"), "s3cret")))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := x509.ParsePKCS8PrivateKey(c.Certificate.Key.Reveal()); err != nil || len(c.Certificate.Chain) != 1 {
				t.Errorf("%d certificates, key: %v", len(c.Certificate.Chain), err)
			}
			login := c.Login()
			if login.RevealString() != alice {
				t.Errorf("the login name is %q", login.Reveal())
			}
			wiped := c.Clone()
			c.Wipe()
			if !c.Certificate.Key.IsZero() || wiped.Certificate.Key.IsZero() {
				t.Error("wiping a credential does not wipe its key, or wipes its copy's too")
			}
		})
	}
}

func TestCertificatesThatCannotBeUsedAreUndecryptable(t *testing.T) {
	t.Parallel()
	good := principal(t, alice, pkcs12.Modern2023, "s3cret")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	stolen, err := pkcs12.Modern2023.Encode(key, selfSigned(t, other, alice), nil, "s3cret")
	if err != nil {
		t.Fatal(err)
	}
	trust, err := pkcs12.Modern2023.EncodeTrustStore([]*x509.Certificate{selfSigned(t, key, alice)}, "s3cret")
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]string{
		"a wrong password":             cba(t, good, "wrong"),
		"no file":                      `{"cbaPassword":"s3cret"}`,
		"no base64":                    `{"cbaData":"?","cbaPassword":"s3cret"}`,
		"no PKCS#12":                   cba(t, []byte("-----BEGIN CERTIFICATE-----"), ""),
		"a file that is cut":           cba(t, good[:len(good)-10], "s3cret"),
		"a file with something behind": cba(t, append(slices.Clone(good), 0), "s3cret"),
		"a certificate of another key": cba(t, stolen, "s3cret"),
		"certificates without a key":   cba(t, trust, "s3cret"),
		"a key derivation of PKCS#12 that costs more than any in use": cba(t, principal(t, alice, pkcs12.LegacyDES.WithIterations(600_001), "s3cret"), "s3cret"),
		"one of PKCS#5": cba(t, principal(t, alice, pkcs12.Modern2026.WithIterations(600_001), "s3cret"), "s3cret"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := decrypt(credential.RSAPKCS1Chunked, credential.CBA, chunked(t, test)); !errors.Is(err, credential.ErrUndecryptable) {
				t.Errorf("got error %v", err)
			}
		})
	}
}

// FuzzOpenCertificate takes any file for a certificate.
func FuzzOpenCertificate(f *testing.F) {
	for _, encoder := range []*pkcs12.Encoder{pkcs12.LegacyRC2, pkcs12.Modern2023} {
		f.Add(principal(f, alice, encoder.WithIterations(1), "s3cret"))
	}
	f.Fuzz(func(t *testing.T, pfx []byte) {
		if len(pfx) > 4096 {
			return
		}
		c, err := decrypt(credential.RSAPKCS1Chunked, credential.CBA, chunked(t, cba(t, pfx, "s3cret")))
		if err != nil && !errors.Is(err, credential.ErrUndecryptable) {
			t.Errorf("got error %v", err)
		}
		if err == nil && c.Certificate.Key.IsZero() {
			t.Error("a certificate without a key")
		}
	})
}
