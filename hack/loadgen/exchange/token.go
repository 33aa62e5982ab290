package exchange

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v4"
)

const (
	tokenKeyBytes = 32
	// tokenPaddingBytes make a token as long as a real one, which has one to three kilobytes.
	tokenPaddingBytes = 900
	// tokenLife is that of Entra ID's tokens at least.
	tokenLife     = time.Hour
	tokenAudience = "https://load.example.com"
	tokenIssuer   = "https://sts.load.example.com/"
	// diagnosticsHeader and what it says are as of Exchange (ews.md, section 5).
	diagnosticsHeader  = "X-Ms-Diagnostics"
	diagnosticsExpired = `2000002;reason="The token has expired.";error_category="token_expired"`
	diagnosticsInvalid = `2000003;reason="The token could not be validated.";error_category="invalid_token"`
)

func newTokenKey() []byte {
	key := make([]byte, tokenKeyBytes)
	_, _ = rand.Read(key) // never fails
	return key
}

// tokenClaims are those that are read, among what makes a token long.
type tokenClaims struct {
	jwt.RegisteredClaims
	UPN     string `json:"upn"`
	Padding string `json:"xms_padding"`
}

// IssueToken returns an access token of the mailbox's user, and when it ends by the server's clock.
func (s *Server) IssueToken(user Mailbox) (token string, expires time.Time, err error) {
	now := s.options.Now()
	expires = now.Add(tokenLife)
	token, err = jwt.NewWithClaims(jwt.SigningMethodHS256, tokenClaims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: tokenIssuer, Audience: jwt.ClaimStrings{tokenAudience},
			IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(expires),
		},
		UPN: user.Address(), Padding: strings.Repeat("x", tokenPaddingBytes),
	}).SignedString(s.tokenKey)
	if err != nil {
		return "", expires, fmt.Errorf("signing a token: %w", err)
	}
	return token, expires, nil
}

// byToken finds the user of an access token.
func (s *Server) byToken(token string) (Mailbox, http.Header, error) {
	var claims tokenClaims
	parser := jwt.NewParser(jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), jwt.WithoutClaimsValidation())
	_, err := parser.ParseWithClaims(token, &claims, func(*jwt.Token) (any, error) { return s.tokenKey, nil })
	if err != nil || !claims.VerifyAudience(tokenAudience, true) || !claims.VerifyIssuer(tokenIssuer, true) {
		return 0, refusedToken(diagnosticsInvalid), errCredential
	}
	if !claims.VerifyExpiresAt(s.options.Now(), true) {
		return 0, refusedToken(diagnosticsExpired), errors.New("the token has expired")
	}
	user, err := parseAddress(claims.UPN)
	if err != nil {
		return 0, refusedToken(diagnosticsInvalid), err
	}
	return user, nil, nil
}

func refusedToken(diagnostics string) http.Header {
	return http.Header{
		diagnosticsHeader:  {diagnostics},
		authenticateHeader: {OAuth.challenge() + `, error="invalid_token"`},
	}
}
