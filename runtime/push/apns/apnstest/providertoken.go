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
	var claims jwt.RegisteredClaims
	var key trusted
	_, err := jwt.NewParser(jwt.WithValidMethods([]string{"ES256"}), jwt.WithoutClaimsValidation()).
		ParseWithClaims(text, &claims, func(parsed *jwt.Token) (any, error) {
			id, _ := parsed.Header["kid"].(string)
			s.mu.Lock()
			defer s.mu.Unlock()
			var known bool
			if key, known = s.keys[id]; !known {
				return nil, errors.New("unknown key id")
			}
			return key.public, nil
		})
	now := s.options.Clock.Now()
	switch {
	case err != nil:
		return "", refuse(http.StatusForbidden, "InvalidProviderToken", "not an ES256 token of a trusted key")
	case claims.Issuer != key.teamID:
		return "", refuse(http.StatusForbidden, "InvalidProviderToken", "iss is not the key's team")
	case claims.IssuedAt == nil || claims.IssuedAt.After(now):
		return "", refuse(http.StatusForbidden, "InvalidProviderToken", "iat is missing or in the future")
	case now.Sub(claims.IssuedAt.Time) > tokenLifetime:
		return "", refuse(http.StatusForbidden, "ExpiredProviderToken", "iat is more than an hour ago")
	}
	if !s.countToken(key.teamID, text, now) {
		return "", refuse(http.StatusTooManyRequests, reasonTooManyUpdates, "the second new provider token in 20 minutes")
	}
	return key.teamID, nil
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
