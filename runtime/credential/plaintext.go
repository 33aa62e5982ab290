package credential

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"regexp"
	"time"
	"unicode/utf8"

	"github.com/ens-operator/ens-operator/runtime/secret"
)

// plaintext is what devices encrypt (protocol.md, How the device sends its credential): the fields of one kind of
// credential, or of two as authType says.
type plaintext struct {
	Username secret.Value `json:"username"`
	Password secret.Value `json:"password"`
	// OAuthExpires is RFC 3339.
	OAuthAccessToken secret.Value `json:"oauthAccessToken"`
	OAuthExpires     *time.Time   `json:"oauthExpires"`
	// CBAData is a PKCS#12 file in base64.
	CBAData     secret.Value `json:"cbaData"`
	CBAPassword secret.Value `json:"cbaPassword"`
}

func (p *plaintext) wipe() {
	for _, field := range []*secret.Value{&p.Username, &p.Password, &p.OAuthAccessToken, &p.CBAData, &p.CBAPassword} {
		field.Wipe()
	}
}

// parse reads a decrypted credential, which must have the parts that authType wants. Every failure is ErrUndecryptable.
func parse(plain []byte, authType AuthType) (Credential, error) {
	if !authType.Known() || !utf8.Valid(plain) {
		return Credential{}, ErrUndecryptable
	}
	fields, err := readPlaintext(plain, authType)
	defer fields.wipe()
	if err != nil {
		return Credential{}, err
	}
	c := Credential{AuthType: authType}
	if err := fields.fill(&c); err != nil {
		c.Wipe()
		return Credential{}, err
	}
	return c, nil
}

// readPlaintext reads JSON, or username:password for Basic; text that starts with { is always JSON.
func readPlaintext(plain []byte, authType AuthType) (fields plaintext, err error) {
	if !bytes.HasPrefix(plain, []byte("{")) {
		username, password, found := bytes.Cut(plain, []byte(":"))
		if !found || authType != Basic {
			return fields, ErrUndecryptable
		}
		fields.Username, fields.Password = secret.New(bytes.Clone(username)), secret.New(bytes.Clone(password))
		return fields, nil
	}
	if json.Unmarshal(plain, &fields) != nil { // no Decoder, whose copy of the plaintext nobody clears
		return fields, ErrUndecryptable
	}
	return fields, nil
}

// bearerToken is the form of an access token (RFC 6750, section 2.1).
var bearerToken = regexp.MustCompile(`^[A-Za-z0-9._~+/-]+=*$`)

// fill takes the parts that c's type wants. What the device sent beyond them is not used.
func (p *plaintext) fill(c *Credential) error {
	if c.AuthType.HasPassword() {
		c.Username, c.Password = clone(p.Username), clone(p.Password)
		if !presentable(c.Username.RevealString()) || !presentable(c.Password.RevealString()) {
			return ErrUndecryptable
		}
	}
	if c.AuthType.HasToken() {
		c.Token = clone(p.OAuthAccessToken)
		if !bearerToken.Match(c.Token.Reveal()) {
			return ErrUndecryptable
		}
		if p.OAuthExpires != nil {
			c.Expires = p.OAuthExpires.UTC()
		}
	}
	if c.AuthType.HasCertificate() {
		var err error
		c.Certificate, err = openBase64PFX(p.CBAData, p.CBAPassword)
		return err
	}
	return nil
}

func openBase64PFX(data, password secret.Value) (Certificate, error) {
	pfx := make([]byte, base64.StdEncoding.DecodedLen(len(data.Reveal())))
	defer clear(pfx)
	n, err := base64.StdEncoding.Decode(pfx, data.Reveal())
	if err != nil {
		return Certificate{}, ErrUndecryptable
	}
	return openPFX(pfx[:n], password)
}

func clone(v secret.Value) secret.Value { return secret.New(bytes.Clone(v.Reveal())) }
