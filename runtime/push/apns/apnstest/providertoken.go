package apnstest

import (
	"crypto/ecdsa"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v4"
)

const (
	// tokenLifetime and tokenMinUse are Apple's rules: refresh no more than once every 20 minutes and no less than
	// once every 60 minutes.
	tokenLifetime = 60 * time.Minute
	tokenMinUse   = 20 * time.Minute
)

type trusted struct {
	teamID string
	public *ecdsa.PublicKey
}

// team is what Apple remembers of a team's provider tokens.
type team struct {
	// seen holds the tokens by their text with the time of their first use.
	seen map[string]time.Time
	// changed is when the newest one was first used.
	changed time.Time
}

// authenticate checks a provider token. It returns the team, or how to refuse.
func (s *Server) authenticate(authorization string) (string, *refusal) {
	scheme, text, found := strings.Cut(authorization, " ")
	if !found || !strings.EqualFold(scheme, "bearer") || text == "" {
		return "", refuse(http.StatusForbidden, "MissingProviderToken", "no bearer token in the authorization header")
	}
	read := s.readToken(text)
	now := s.options.Clock.Now()
	switch {
	case read.err != nil:
		return "", refuse(http.StatusForbidden, "InvalidProviderToken", "not an ES256 token of a trusted key")
	case read.claims.Issuer != read.teamID:
		return "", refuse(http.StatusForbidden, "InvalidProviderToken", "iss is not the key's team")
	case read.claims.IssuedAt == nil || read.claims.IssuedAt.After(now):
		return "", refuse(http.StatusForbidden, "InvalidProviderToken", "iat is missing or in the future")
	case now.Sub(read.claims.IssuedAt.Time) > tokenLifetime:
		return "", refuse(http.StatusForbidden, "ExpiredProviderToken", "iat is more than an hour ago")
	}
	if !s.countToken(read.teamID, text, now) {
		return "", refuse(http.StatusTooManyRequests, reasonTooManyUpdates, "the second new provider token in 20 minutes")
	}
	return read.teamID, nil
}

// providerToken is what stands in a provider token. Its age is not judged yet.
type providerToken struct {
	claims jwt.RegisteredClaims
	teamID string
	err    error
}

// maxJudged bounds the tokens that are remembered; no client has more than a few.
const maxJudged = 1000

// readToken verifies a token's signature, once: that takes longer than everything else that a push is judged by.
func (s *Server) readToken(text string) providerToken {
	s.mu.Lock()
	read, known := s.judged[text]
	s.mu.Unlock()
	if known {
		return read
	}
	var key trusted
	_, read.err = jwt.NewParser(jwt.WithValidMethods([]string{"ES256"}), jwt.WithoutClaimsValidation()).
		ParseWithClaims(text, &read.claims, func(parsed *jwt.Token) (any, error) {
			id, _ := parsed.Header["kid"].(string)
			s.mu.Lock()
			defer s.mu.Unlock()
			var known bool
			if key, known = s.keys[id]; !known {
				return nil, errors.New("unknown key id")
			}
			return key.public, nil
		})
	read.teamID = key.teamID
	s.mu.Lock()
	defer s.mu.Unlock()
	if read.err == nil && len(s.judged) < maxJudged { // a key that is not known may become so
		s.judged[text] = read
	}
	return read
}

// countToken remembers a valid token and reports whether the team has not changed it too soon.
func (s *Server) countToken(teamID, text string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.teams[teamID]
	if t == nil {
		t = &team{seen: make(map[string]time.Time)}
		s.teams[teamID] = t
	}
	if _, known := t.seen[text]; known {
		return true
	}
	if !t.changed.IsZero() && now.Sub(t.changed) < tokenMinUse {
		return false
	}
	for old, first := range t.seen {
		if now.Sub(first) > 2*tokenLifetime {
			delete(t.seen, old)
		}
	}
	t.seen[text], t.changed = now, now
	s.stats.ProviderTokens++
	return true
}
