package snstest

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"regexp"
	"time"
)

const (
	// roleLife is how long a role's credentials live.
	roleLife   = time.Hour
	timeFormat = "2006-01-02T15:04:05Z"
)

// TrustRole lets the role be taken with a web identity token. A later token for the same role replaces it.
func (s *Server) TrustRole(arn, token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roles[arn] = token
}

// roleCredentials is the answer to AssumeRoleWithWebIdentity, as far as it is used.
type roleCredentials struct {
	XMLName         struct{} `xml:"AssumeRoleWithWebIdentityResult"`
	AssumedRoleID   string   `xml:"AssumedRoleUser>AssumedRoleId"`
	AssumedRoleARN  string   `xml:"AssumedRoleUser>Arn"`
	AccessKeyID     string   `xml:"Credentials>AccessKeyId"`
	SecretAccessKey string   `xml:"Credentials>SecretAccessKey"`
	SessionToken    string   `xml:"Credentials>SessionToken"`
	Expiration      string   `xml:"Credentials>Expiration"`
}

var sessionName = regexp.MustCompile(`^[A-Za-z0-9_+=,.@-]{2,64}$`)

// takeRole is AssumeRoleWithWebIdentity, which is not signed.
func (s *Server) takeRole(form url.Values) (any, *refusal) {
	const longestToken = 20_000
	arn, token, name := form.Get("RoleArn"), form.Get("WebIdentityToken"), form.Get("RoleSessionName")
	s.mu.Lock()
	defer s.mu.Unlock()
	trusted, known := s.roles[arn]
	switch {
	case form.Get("Action") != "AssumeRoleWithWebIdentity":
		return nil, refuse(http.StatusBadRequest, "InvalidAction", "no such action")
	case !sessionName.MatchString(name) || len(token) < 4 || len(token) > longestToken:
		return nil, refuse(http.StatusBadRequest, "ValidationError", "the session's name or the token has not the form")
	case !known:
		return nil, refuse(http.StatusForbidden, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")
	case token != trusted:
		return nil, refuse(http.StatusBadRequest, "InvalidIdentityToken", "the token is not from the role's identity provider")
	}
	s.stats.SignIns++
	const idLength, secretLength = 16, 40
	key := signingKey{
		secret: (rand.Text() + rand.Text())[:secretLength], session: rand.Text() + rand.Text() + "==",
		expires: s.options.Clock.Now().Add(roleLife),
	}
	id := "ASIA" + rand.Text()[:idLength]
	s.keys[id] = key
	return roleCredentials{
		AssumedRoleID: "AROA" + rand.Text()[:idLength] + ":" + name, AssumedRoleARN: arn + "/" + name,
		AccessKeyID: id, SecretAccessKey: key.secret, SessionToken: key.session, Expiration: key.expires.UTC().Format(timeFormat),
	}, nil
}
