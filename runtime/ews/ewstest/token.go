package ewstest

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v4"
)

// A real access token has one to three kilobytes, most of it claims that nobody reads.
const tokenPaddingBytes = 900

const tokenKeyBytes = 32

// newTokenKey is not drawn from the seed: nobody but the server may be able to sign.
func newTokenKey() []byte {
	key := make([]byte, tokenKeyBytes)
	_, _ = rand.Read(key) // never fails
	return key
}

// What Exchange says of tokens (ews.md, section 5): the first is documented, the others are modelled on it.
const (
	diagnosticsHeader   = "X-Ms-Diagnostics"
	diagnosticsExpired  = `2000002;reason="The token has expired.";error_category="token_expired"`
	diagnosticsInvalid  = `2000003;reason="The token could not be validated.";error_category="invalid_token"`
	diagnosticsUnknown  = `2000004;reason="The user specified by the user-context in the token does not exist.";error_category="invalid_user"`
	tokenAudience       = "https://fake.example.com"
	tokenIssuer         = "https://sts.fake.example.com/"
	tokenErrorParameter = `, error="invalid_token"`
)

// tokenClaims are those that the fake reads, among what real tokens have.
type tokenClaims struct {
	jwt.RegisteredClaims
	UPN string `json:"upn"`
	// Generation is how often the user's tokens had been revoked.
	Generation int    `json:"gen"`
	Padding    string `json:"xms_padding"`
}

// IssueToken returns an access token of the mailbox's user, as the identity provider issues it. It holds for ttl on the
// server's clock; a ttl below zero makes one that has ended. It panics if there is no such mailbox.
func (s *Server) IssueToken(address string, ttl time.Duration) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	box := s.mailbox(address)
	if box == nil {
		panic("ewstest: a token for a mailbox that is not there")
	}
	now := s.options.Clock.Now()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, tokenClaims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: tokenIssuer, Audience: jwt.ClaimStrings{tokenAudience},
			IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(ttl)),
		},
		UPN: box.Address, Generation: box.revocations, Padding: strings.Repeat("x", tokenPaddingBytes),
	}).SignedString(s.tokenKey)
	if err != nil {
		panic(fmt.Sprintf("ewstest: signing a token: %v", err)) // only with a wrong type of key
	}
	return token
}

// RevokeTokens makes all tokens of the mailbox's user invalid that were issued so far.
func (s *Server) RevokeTokens(address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if box := s.mailbox(address); box != nil {
		box.revocations++
	}
}

// tokenLogin checks signature, revocation and expiry of an access token; s.mu is held.
func (s *Server) tokenLogin(token string) login {
	var claims tokenClaims
	parser := jwt.NewParser(jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), jwt.WithoutClaimsValidation())
	if _, err := parser.ParseWithClaims(token, &claims, func(*jwt.Token) (any, error) { return s.tokenKey, nil }); err != nil {
		return refusedToken(nil, diagnosticsInvalid)
	}
	user := s.mailbox(claims.UPN)
	switch {
	case user == nil:
		return refusedToken(nil, diagnosticsUnknown)
	case claims.ExpiresAt == nil || !s.options.Clock.Now().Before(claims.ExpiresAt.Time):
		return refusedToken(user, diagnosticsExpired)
	case claims.Generation != user.revocations:
		return refusedToken(user, diagnosticsInvalid)
	}
	return login{user: user, ok: true}
}

func refusedToken(user *mailbox, diagnostics string) login {
	return login{user: user, header: http.Header{
		diagnosticsHeader:  {diagnostics},
		"Www-Authenticate": {OAuth.Challenge() + tokenErrorParameter},
	}}
}
