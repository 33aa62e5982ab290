package config

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// APIToken is an accepted API token: its hash, and until when it holds.
type APIToken struct {
	SHA256 [sha256.Size]byte
	// Expires is when the token stops being accepted; zero is never.
	Expires time.Time
}

// APITokens are the tenant's accepted tokens; two during a rotation.
type APITokens []APIToken

// ParseAPITokens reads the content of APITokenHashesFile. An empty file is an error: without a token no device can
// ever get in, and a half-written Secret must not lock the tenant out.
func ParseAPITokens(content string) (APITokens, error) {
	var tokens APITokens
	number := 0
	for line := range strings.Lines(content) {
		number++
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		token, err := parseAPIToken(fields)
		if err != nil {
			return nil, fmt.Errorf("API token hash in line %d: %w", number, err)
		}
		tokens = append(tokens, token)
	}
	if len(tokens) == 0 {
		return nil, fmt.Errorf("API token hashes: %w", ErrNoKey)
	}
	return tokens, nil
}

// The years an expiry may be in. The zero time means never, so a wrong date must not come near it; beyond 9999 RFC 3339
// ends.
const (
	firstExpiryYear = 2000
	lastExpiryYear  = 9999
)

func parseAPIToken(fields []string) (APIToken, error) {
	var token APIToken
	sum, err := hex.DecodeString(fields[0])
	if err != nil || len(sum) != sha256.Size {
		return token, fmt.Errorf("want %d hex digits: the SHA-256 of a token, not the token", hex.EncodedLen(sha256.Size))
	}
	token.SHA256 = [sha256.Size]byte(sum)
	if len(fields) > 1 {
		// The parser's own error would repeat the text, which may be a token that somebody put into the wrong place.
		expires, err := time.Parse(time.RFC3339, fields[1])
		expires = expires.UTC()
		if err != nil || expires.Year() < firstExpiryYear || expires.Year() > lastExpiryYear {
			return token, fmt.Errorf("want an expiry like 2030-12-31T00:00:00Z from %d to %d", firstExpiryYear, lastExpiryYear)
		}
		token.Expires = expires.Truncate(time.Second)
	}
	return token, nil
}

// String formats the tokens as ParseAPITokens reads them.
func (t APITokens) String() string {
	var b strings.Builder
	for _, token := range t {
		b.WriteString(hex.EncodeToString(token.SHA256[:]))
		if !token.Expires.IsZero() {
			b.WriteString(" " + token.Expires.UTC().Format(time.RFC3339))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// Accept returns the id of token if it is one of t at the time now, and whether it is. All hashes are compared, each in
// constant time.
func (t APITokens) Accept(token string, now time.Time) (id string, accepted bool) {
	sum := sha256.Sum256([]byte(token))
	for i := range t {
		if subtle.ConstantTimeCompare(sum[:], t[i].SHA256[:]) == 1 && t[i].valid(now) {
			id, accepted = t[i].ID(), true
		}
	}
	return id, accepted
}

// Several reports whether more than one token is accepted at the time now, as during a rotation.
func (t APITokens) Several(now time.Time) bool {
	valid := 0
	for _, token := range t {
		if token.valid(now) {
			valid++
		}
	}
	return valid > 1
}

func (t APIToken) valid(now time.Time) bool { return t.Expires.IsZero() || now.Before(t.Expires) }

// idBytes of a token's hash tell a tenant's tokens apart, and are of no use for anything else.
const idBytes = 4

// ID names the token in the database and in logs: the first 8 hex digits of its SHA-256.
func (t APIToken) ID() string { return hex.EncodeToString(t.SHA256[:idBytes]) }
