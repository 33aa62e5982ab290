package credential_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/ens-operator/ens-operator/runtime/credential"
)

func TestDecryptTakesTheFormsOfTheContract(t *testing.T) {
	t.Parallel()
	longest := strings.Repeat("p", 245-len("alice:"))
	for name, test := range map[string]struct{ plain, username, password string }{
		"JSON":                           {`{"username":"alice","password":"s3cret"}`, "alice", "s3cret"},
		"JSON with fields of tomorrow":   {`{"username":"alice","password":"s3cret","otp":"1"}`, "alice", "s3cret"},
		"JSON with spaces and line ends": {"{ \"username\": \"alice\",\r\n\"password\": \"s3cret\" }\n", "alice", "s3cret"},
		"JSON with escapes":              {`{"username":"ACME\\alice","password":"\"\u00fc"}`, `ACME\alice`, `"ü`},
		"user:password":                  {"alice:s3cret", "alice", "s3cret"},
		"a password with colons":         {"alice:s3:cr:et", "alice", "s3:cr:et"},
		"a password with spaces around":  {"alice: s3cret ", "alice", " s3cret "},
		"a password beyond ASCII":        {"alice:pä§wörd€😀", "alice", "pä§wörd€😀"},
		"a password that looks like JSON": {`alice:{"username":"mallory","password":"x"}`, "alice",
			`{"username":"mallory","password":"x"}`},
		"the longest that fits a block": {"alice:" + longest, "alice", longest},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := decrypt(credential.RSAPKCS1, credential.Basic, encrypt(t, []byte(test.plain)))
			if err != nil {
				t.Fatal(err)
			}
			if c.AuthType != credential.Basic || c.Username.RevealString() != test.username || c.Password.RevealString() != test.password {
				t.Errorf("got %q and %q", c.Username.Reveal(), c.Password.Reveal())
			}
		})
	}
}

// decrypt opens a payload without anything beside it.
func decrypt(scheme credential.Scheme, authType credential.AuthType, payload string) (credential.Credential, error) {
	c, _, err := credential.Decrypt(userKey(), credential.Payload{Scheme: scheme, AuthType: authType, Credentials: payload})
	return c, err
}

func TestEverythingUndecryptableIsTheSameError(t *testing.T) {
	t.Parallel()
	good := encrypt(t, []byte("alice:s3cret"))
	block, err := base64.StdEncoding.DecodeString(good)
	if err != nil {
		t.Fatal(err)
	}
	other, err := rsa.GenerateKey(rand.Reader, credential.KeyBits)
	if err != nil {
		t.Fatal(err)
	}
	//nolint:staticcheck // SA1019: PKCS#1 v1.5 is the original's contract (K-07)
	foreign, err := rsa.EncryptPKCS1v15(rand.Reader, &other.PublicKey, []byte("alice:s3cret"))
	if err != nil {
		t.Fatal(err)
	}
	plain := func(text string) string { return encrypt(t, []byte(text)) }
	encode := base64.StdEncoding.EncodeToString
	for name, payload := range map[string]string{
		"JSON that breaks off":              plain(`{"username":"alice","password":"s3cret"`),
		"garbage that starts with a brace":  plain(`{alice:s3cret`),
		"a brace, then user:password":       plain(`{}alice:s3cret`),
		"JSON with something behind":        plain(`{"username":"alice","password":"s3cret"}{}`),
		"JSON with a brace behind":          plain(`{"username":"alice","password":"s3cret"}}`),
		"JSON with a NUL behind":            plain("{\"username\":\"alice\",\"password\":\"s3cret\"}\x00"),
		"JSON without a password":           plain(`{"username":"alice"}`),
		"JSON without a user name":          plain(`{"password":"s3cret"}`),
		"JSON with an empty password":       plain(`{"username":"alice","password":""}`),
		"JSON with an empty user name":      plain(`{"username":"","password":"s3cret"}`),
		"JSON with null for the password":   plain(`{"username":"alice","password":null}`),
		"JSON with a number for a password": plain(`{"username":"alice","password":12345}`),
		"JSON with a list for a password":   plain(`{"username":"alice","password":["s3cret"]}`),
		"an escaped NUL in JSON":            plain(`{"username":"alice","password":"s3\u0000cret"}`),
		"an escaped line end in JSON":       plain(`{"username":"alice\r\nX-Evil: 1","password":"s3cret"}`),
		"an OAuth credential":               plain(`{"oauthAccessToken":"x","oauthExpires":"2026-01-01T00:00:00Z"}`),
		"no colon":                          plain("alice"),
		"an empty password":                 plain("alice:"),
		"an empty user name":                plain(":s3cret"),
		"nothing encrypted":                 plain(""),
		"a NUL":                             plain("alice:s3\x00cret"),
		"a line end":                        plain("alice:s3cret\r\nX-Evil: 1"),
		"a tab":                             plain("ali\tce:s3cret"),
		"a delete":                          plain("alice:s3cret\x7f"),
		"a control character beyond ASCII":  plain("alice:s3\u0085cret"),
		"invalid UTF-8":                     plain("alice:s3\xffcret"),
		"invalid UTF-8 in JSON":             plain("{\"username\":\"alice\",\"password\":\"s3\xffcret\"}"),
		"an empty payload":                  "",
		"no base64":                         "?" + good[1:],
		"base64 of another alphabet":        "-_" + good[2:],
		"base64 without its padding":        strings.TrimRight(good, "="),
		"base64 with something behind":      good + "AAAA",
		"bad padding":                       encode(bytes.Repeat([]byte{7}, len(block))),
		"zeros":                             encode(make([]byte, len(block))),
		"a number above the modulus":        encode(bytes.Repeat([]byte{0xff}, len(block))),
		"a block that is a byte short":      encode(block[:len(block)-1]),
		"a block that is a byte long":       encode(append(bytes.Clone(block), 0)),
		"two blocks":                        encode(append(bytes.Clone(block), block...)),
		"the block of another user's key":   encode(foreign),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := decrypt(credential.RSAPKCS1, credential.Basic, payload)
			if err != credential.ErrUndecryptable { //nolint:errorlint // the same value, so that nothing tells the causes apart
				t.Errorf("got error %v", err)
			}
			if !c.Username.IsZero() || !c.Password.IsZero() {
				t.Error("a credential came with the error")
			}
		})
	}
	for name, test := range map[string]struct {
		scheme   credential.Scheme
		authType credential.AuthType
	}{
		"a scheme that is not offered": {"rsa-oaep", credential.Basic},
		"a split without its key":      {credential.RSASplit, credential.Basic},
		"an authType of tomorrow":      {credential.RSAPKCS1, credential.OAuthCBA + 1},
		"no scheme":                    {"", credential.Basic},
		"OAuth":                        {credential.RSAPKCS1, credential.OAuth},
	} {
		_, err := decrypt(test.scheme, test.authType, good)
		if err != credential.ErrUndecryptable { //nolint:errorlint // as above
			t.Errorf("%s: got error %v", name, err)
		}
	}
}

func TestDecryptEmail(t *testing.T) {
	t.Parallel()
	hash := credential.HashAddress("alice@example.com")
	for name, test := range map[string]struct {
		payload string
		want    string
	}{
		"the user's address":                 {encrypt(t, []byte("alice@example.com")), "alice@example.com"},
		"the user's address in another case": {encrypt(t, []byte("Alice@Example.COM")), "Alice@Example.COM"},
		"a colleague's address":              {encrypt(t, []byte("bob@example.com")), ""},
		"a space behind":                     {encrypt(t, []byte("alice@example.com ")), ""},
		"a NUL behind":                       {encrypt(t, []byte("alice@example.com\x00")), ""},
		"nothing encrypted":                  {encrypt(t, nil), ""},
		"not encrypted":                      {"alice@example.com", ""},
		"an empty payload":                   {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address, err := credential.DecryptEmail(userKey(), test.payload, hash)
			if address.RevealString() != test.want {
				t.Errorf("got %q, want %q", address.Reveal(), test.want)
			}
			if refused := err == credential.ErrUndecryptable; refused != (test.want == "") || !refused && err != nil { //nolint:errorlint // the same value
				t.Errorf("got error %v", err)
			}
		})
	}
	t.Run("an address with a control character, even if its hash fits", func(t *testing.T) {
		t.Parallel()
		const address = "alice@example.com\r\nRCPT TO:<bob@example.com>"
		_, err := credential.DecryptEmail(userKey(), encrypt(t, []byte(address)), credential.HashAddress(address))
		if err != credential.ErrUndecryptable { //nolint:errorlint // the same value
			t.Errorf("got error %v", err)
		}
	})
}

func TestParseUserIDTakesLowerCaseHexOnly(t *testing.T) {
	t.Parallel()
	good := strings.Repeat("0f", 32)
	for name, text := range map[string]string{
		"empty":                  "",
		"a digit short":          good[1:],
		"a digit long":           good + "0",
		"upper case":             strings.ToUpper(good),
		"one upper-case digit":   good[:63] + "F",
		"not hex":                good[:63] + "g",
		"a NUL":                  good[:63] + "\x00",
		"a letter of two bytes":  good[:62] + "ä",
		"a prefix":               "0x" + good[2:],
		"a space in front":       " " + good[1:],
		"64 runes, not 64 bytes": strings.Repeat("é", 64),
	} {
		if _, err := credential.ParseUserID(text); err == nil {
			t.Errorf("%s: not refused", name)
		} else if text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("%s: the error repeats what the caller sent: %v", name, err)
		}
	}
	if hash, err := credential.ParseUserID(good); err != nil || hex.EncodeToString(hash[:]) != good {
		t.Errorf("got %x, %v", hash, err)
	}
}

func FuzzParseUserID(f *testing.F) {
	f.Add("1743604ea20cda831dc7aea285e7fdc011ca233caf0fa7d5d926916622dd182d")
	f.Add(strings.Repeat("0F", 32))
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		hash, err := credential.ParseUserID(text)
		if err == nil && hex.EncodeToString(hash[:]) != text {
			t.Errorf("%q was read as %x", text, hash)
		}
	})
}

// FuzzDecrypt takes what anyone may send.
func FuzzDecrypt(f *testing.F) {
	for _, plain := range decryptSeeds {
		f.Add(encrypt(f, []byte(plain)))
	}
	f.Add("")
	f.Add("AAAA")
	f.Fuzz(func(t *testing.T, payload string) {
		checkDecrypted(t, payload)
	})
}

// FuzzDecryptPlaintext takes what anyone may encrypt: a fuzzer does not find its way through RSA.
func FuzzDecryptPlaintext(f *testing.F) {
	for _, plain := range decryptSeeds {
		f.Add([]byte(plain))
	}
	const longest = credential.KeyBits/8 - 11 // of a block in PKCS#1 v1.5
	f.Fuzz(func(t *testing.T, plain []byte) {
		if len(plain) <= longest {
			checkDecrypted(t, encrypt(t, plain))
		}
	})
}

var decryptSeeds = []string{
	"alice:s3cret", `{"username":"alice","password":"s3cret"}`, `{"username":"\u0000","password":"\ud800"}`, "{}", ":", "",
	"a:\xff", `{"username":"a","password":"b"} x`,
}

// checkDecrypted wants the one error, or a credential that can be put into a header.
func checkDecrypted(t *testing.T, payload string) {
	t.Helper()
	c, err := decrypt(credential.RSAPKCS1, credential.Basic, payload)
	if err != nil {
		if err != credential.ErrUndecryptable { //nolint:errorlint // the same value, so that nothing tells the causes apart
			t.Errorf("got error %v", err)
		}
		return
	}
	for _, part := range []string{c.Username.RevealString(), c.Password.RevealString()} {
		if part == "" || !utf8.ValidString(part) || strings.ContainsFunc(part, unicode.IsControl) {
			t.Errorf("%q is part of a credential", part)
		}
	}
}
