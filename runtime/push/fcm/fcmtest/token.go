package fcmtest

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v4"
)

const (
	scope     = "https://www.googleapis.com/auth/firebase.messaging"
	grantType = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	// longestAssertion and longestAccess are Google's limits.
	longestAssertion = time.Hour
	longestAccess    = 3599 * time.Second
	// shortestAccess is the least that a whimsical server grants.
	shortestAccess = 5 * time.Minute
	maxForm        = 16 << 10
)

// assertionClaims are what a service account states.
type assertionClaims struct {
	Scope string `json:"scope"`
	jwt.RegisteredClaims
}

// token is the OAuth token endpoint (RFC 7523).
func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	s.count(func(stats *Stats) { stats.LoginRequests++ })
	if fault := s.logins.FaultFor(Request{}); fault != nil {
		s.fail(w, r, fault)
		return
	}
	if err := r.ParseForm(); err != nil || r.PostForm.Get("grant_type") != grantType {
		s.refuseLogin(w, "unsupported_grant_type", "the grant_type is not the JWT bearer's")
		return
	}
	if why := s.checkAssertion(r.PostForm.Get("assertion")); why != "" {
		s.refuseLogin(w, "invalid_grant", why)
		return
	}
	const size = 32
	raw := make([]byte, size)
	_, _ = rand.Read(raw)
	bearer := "ya29." + hex.EncodeToString(raw)
	life := longestAccess
	s.mu.Lock()
	if !s.options.Calm {
		life = shortestAccess + time.Duration(s.whims.Int64N(int64(longestAccess-shortestAccess)))
	}
	life = life.Truncate(time.Second)
	s.access[bearer] = s.options.Clock.Now().Add(life)
	s.stats.Logins++
	s.mu.Unlock()
	writeJSON(w, http.StatusOK, map[string]any{"access_token": bearer, "expires_in": int(life.Seconds()), "token_type": "Bearer"})
}

// checkAssertion returns what is wrong with an assertion, or nothing.
func (s *Server) checkAssertion(text string) string {
	var claims assertionClaims
	var account trusted
	_, err := jwt.NewParser(jwt.WithValidMethods([]string{"RS256"}), jwt.WithoutClaimsValidation()).
		ParseWithClaims(text, &claims, func(parsed *jwt.Token) (any, error) {
			id, _ := parsed.Header["kid"].(string)
			s.mu.Lock()
			defer s.mu.Unlock()
			var known bool
			if account, known = s.accounts[id]; !known {
				return nil, errors.New("unknown key id")
			}
			return account.public, nil
		})
	now := s.options.Clock.Now()
	switch {
	case err != nil:
		return "Invalid JWT Signature."
	case claims.Issuer != account.email:
		return "Invalid grant: account not found"
	case !slices.Equal(claims.Audience, []string{tokenURI}):
		return "Invalid JWT: audience is not the token endpoint"
	case !slices.Contains(strings.Fields(claims.Scope), scope):
		return "the scope for messaging is missing"
	case claims.IssuedAt == nil || claims.ExpiresAt == nil || claims.IssuedAt.After(now) || !claims.ExpiresAt.After(now),
		claims.ExpiresAt.Sub(claims.IssuedAt.Time) > longestAssertion:
		return "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."
	}
	return ""
}

func (s *Server) refuseLogin(w http.ResponseWriter, code, why string) {
	s.options.Logf("fake FCM refuses a login: %s: %s", code, why)
	writeJSON(w, http.StatusBadRequest, map[string]string{"error": code, "error_description": why})
}

// authorized reports whether a request carries an access token that is valid now.
func (s *Server) authorized(r *http.Request) bool {
	bearer, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	s.mu.Lock()
	defer s.mu.Unlock()
	until, known := s.access[bearer]
	return found && known && s.options.Clock.Now().Before(until)
}

// RevokeAccess makes all access tokens that were given out worthless.
func (s *Server) RevokeAccess() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.access)
}

// writeJSON writes an answer indented as Google's are.
func writeJSON(w http.ResponseWriter, status int, content any) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(content)
}
