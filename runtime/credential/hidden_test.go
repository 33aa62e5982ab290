package credential_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/credential"
)

// The object identifiers of PKCS#5, PKCS#7 and PKCS#12.
var (
	oidData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidEncryptedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 6}
	oidKeyBag        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 1}
	oidShroudedKey   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 2}
	oidPBES2         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidPBMAC1        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 14}
	oidHMACSHA256    = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
	oidAES256CBC     = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
)

func der(t testing.TB, value any) []byte {
	t.Helper()
	out, err := asn1.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

type algorithm struct {
	Algorithm  asn1.ObjectIdentifier
	Parameters asn1.RawValue
}

func raw(der []byte) asn1.RawValue { return asn1.RawValue{FullBytes: der} }

// explicit is [0] EXPLICIT.
func explicit(der []byte) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: der}
}

func deriving(t testing.TB, iterations int) algorithm {
	t.Helper()
	return algorithm{oidPBKDF2, raw(der(t, struct {
		Salt                  []byte
		Iterations, KeyLength int
		Prf                   algorithm
	}{make([]byte, 8), iterations, 32, algorithm{oidHMACSHA256, asn1.NullRawValue}}))}
}

func encrypting(t testing.TB, iterations int) algorithm {
	t.Helper()
	return algorithm{oidPBES2, raw(der(t, struct{ KDF, Cipher algorithm }{
		deriving(t, iterations), algorithm{oidAES256CBC, raw(der(t, make([]byte, aes.BlockSize)))},
	}))}
}

type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue
}

type encryptedContent struct {
	Type      asn1.ObjectIdentifier
	Algorithm algorithm
	Data      asn1.RawValue
}

type digestInfo struct {
	Algorithm algorithm
	Digest    []byte
}

type macData struct {
	Digest     digestInfo
	Salt       []byte
	Iterations int
}

// visible is a part of a PKCS#12 file that holds a private key and is not encrypted.
func visible(t testing.TB) contentInfo {
	t.Helper()
	pkcs8, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	return contentInfo{oidData, explicit(der(t, der(t, []contentInfo{{oidKeyBag, explicit(pkcs8)}})))}
}

// hiding is a PKCS#12 file whose encrypted part holds a key that is encrypted once more, with so many iterations. Other
// parts follow.
func hiding(t testing.TB, password string, iterations int, others ...contentInfo) []byte {
	t.Helper()
	plain := der(t, []contentInfo{{oidShroudedKey, explicit(der(t, struct {
		Algorithm algorithm
		Data      []byte
	}{encrypting(t, iterations), make([]byte, 32)}))}})
	padding := aes.BlockSize - len(plain)%aes.BlockSize
	plain = append(plain, bytes.Repeat([]byte{byte(padding)}, padding)...)
	key, err := pbkdf2.Key(sha256.New, password, make([]byte, 8), 1, 32)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := aes.NewCipher(key)
	encrypted := make([]byte, len(plain))
	cipher.NewCBCEncrypter(block, make([]byte, aes.BlockSize)).CryptBlocks(encrypted, plain)

	content := der(t, struct {
		Version int
		Content encryptedContent
	}{0, encryptedContent{oidData, encrypting(t, 1), asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, Bytes: encrypted}}})
	safe := der(t, append([]contentInfo{{oidEncryptedData, explicit(content)}}, others...))
	macKey, err := pbkdf2.Key(sha256.New, password, make([]byte, 8), 1, 32)
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, macKey)
	mac.Write(safe)
	check := algorithm{oidPBMAC1, raw(der(t, struct{ KDF, MAC algorithm }{deriving(t, 1), algorithm{oidHMACSHA256, asn1.NullRawValue}}))}
	return der(t, struct {
		Version int
		Safe    contentInfo
		Mac     macData
	}{3, contentInfo{oidData, explicit(der(t, safe))}, macData{digestInfo{check, mac.Sum(nil)}, make([]byte, 8), 1}})
}

func TestAnIterationCountThatIsItselfEncryptedCostsNothing(t *testing.T) {
	t.Parallel()
	for name, others := range map[string][]contentInfo{"alone": nil, "before a key that can be seen": {visible(t)}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opened := make(chan error, 1)
			go func() {
				_, err := decrypt(credential.RSAPKCS1Chunked, credential.CBA, chunked(t, cba(t, hiding(t, "s3cret", math.MaxInt64, others...), "s3cret")))
				opened <- err
			}()
			select {
			case err := <-opened:
				if !errors.Is(err, credential.ErrUndecryptable) {
					t.Errorf("got %v", err)
				}
			case <-time.After(10 * time.Second):
				t.Error("opening the file does not end")
			}
		})
	}
}
