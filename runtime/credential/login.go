package credential

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"

	"github.com/ens-operator/ens-operator/runtime/secret"
)

// Login is the name that the credential logs in with, by which the directory knows the user: the user name, the token's
// user principal name, or the certificate's. It is empty if a token or certificate does not say.
func (c *Credential) Login() secret.Value {
	if c.AuthType.HasPassword() {
		return clone(c.Username)
	}
	if name := tokenLogin(c.Token); !name.IsZero() {
		return name
	}
	if len(c.Certificate.Chain) > 0 {
		return certificateLogin(c.Certificate.Chain[0])
	}
	return secret.Value{}
}

// tokenLogin reads the claims of a JSON Web Token. The signature is not looked at: Exchange does that, and the name is
// proved by what it leads to.
func tokenLogin(token secret.Value) secret.Value {
	parts := bytes.Split(token.Reveal(), []byte("."))
	if len(parts) != 3 {
		return secret.Value{}
	}
	payload := make([]byte, base64.RawURLEncoding.DecodedLen(len(parts[1])))
	defer clear(payload)
	n, err := base64.RawURLEncoding.Decode(payload, parts[1])
	if err != nil {
		return secret.Value{}
	}
	// The claims of Entra ID's and AD FS's tokens, the surest first.
	var claims struct {
		UPN               secret.Value `json:"upn"`
		PreferredUsername secret.Value `json:"preferred_username"`
		UniqueName        secret.Value `json:"unique_name"`
	}
	if json.Unmarshal(payload[:n], &claims) != nil {
		return secret.Value{}
	}
	for _, name := range []secret.Value{claims.UPN, claims.PreferredUsername, claims.UniqueName} {
		if presentable(name.RevealString()) {
			return name
		}
	}
	return secret.Value{}
}

var (
	subjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}
	// userPrincipalName is what Active Directory maps a certificate to its user by.
	userPrincipalName = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}
)

// certificateLogin is the user principal name of a certificate, else its e-mail address.
func certificateLogin(der secret.Value) secret.Value {
	certificate, err := x509.ParseCertificate(der.Reveal())
	if err != nil {
		return secret.Value{}
	}
	for _, extension := range certificate.Extensions {
		if extension.Id.Equal(subjectAltName) {
			if name := principalName(extension.Value); presentable(name) {
				return secret.FromString(name)
			}
		}
	}
	for _, address := range certificate.EmailAddresses {
		if presentable(address) {
			return secret.FromString(address)
		}
	}
	return secret.Value{}
}

// principalName finds the otherName that is a user principal name among the names of a subjectAltName.
func principalName(names []byte) string {
	var sequence asn1.RawValue
	if rest, err := asn1.Unmarshal(names, &sequence); err != nil || len(rest) > 0 {
		return ""
	}
	for rest := sequence.Bytes; len(rest) > 0; {
		var name asn1.RawValue
		var err error
		if rest, err = asn1.Unmarshal(rest, &name); err != nil {
			return ""
		}
		if name.Class != asn1.ClassContextSpecific || name.Tag != 0 { // otherName is [0]
			continue
		}
		var kind asn1.ObjectIdentifier
		value, err := asn1.Unmarshal(name.Bytes, &kind)
		if err != nil || !kind.Equal(userPrincipalName) {
			continue
		}
		var text string
		if _, err := asn1.UnmarshalWithParams(value, &text, "explicit,tag:0,utf8"); err == nil {
			return text
		}
	}
	return ""
}
