package snstest

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// AccessKey is what requests are signed with.
type AccessKey struct{ ID, Secret string }

// signingKey is an access key that the server knows.
type signingKey struct {
	secret string
	// session is the token that must come with a role's key; expires is when that ends.
	session string
	expires time.Time
}

// NewAccessKey makes an access key of an IAM user. No server knows it yet.
func NewAccessKey() AccessKey {
	const idLength, secretLength = 16, 40
	return AccessKey{ID: "AKIA" + rand.Text()[:idLength], Secret: (rand.Text() + rand.Text())[:secretLength]}
}

// TrustAccessKey lets requests be signed with key.
func (s *Server) TrustAccessKey(key AccessKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[key.ID] = signingKey{secret: key.Secret}
}

// AccessKey makes an access key and trusts it.
func (s *Server) AccessKey() AccessKey {
	key := NewAccessKey()
	s.TrustAccessKey(key)
	return key
}

const (
	algorithm  = "AWS4-HMAC-SHA256"
	terminator = "aws4_request"
	dateForm   = "20060102T150405Z"
	// maxSkew is how far a request's date may be from the server's clock.
	maxSkew = 5 * time.Minute
)

// authorization is the header field of a signed request.
var authorization = regexp.MustCompile(`^` + algorithm + ` Credential=([A-Z0-9]+)/(\d{8})/([a-z0-9-]+)/([a-z]+)/` + terminator +
	`, ?SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})$`)

// checkSignature is Amazon's judgement of a request's signature ("AWS Signature Version 4 for API requests").
func (s *Server) checkSignature(r *http.Request, body []byte) *refusal {
	header := r.Header.Get("Authorization")
	if header == "" {
		return refuse(http.StatusForbidden, "MissingAuthenticationToken", "the request is not signed")
	}
	parts := authorization.FindStringSubmatch(header)
	if parts == nil {
		return refuse(http.StatusForbidden, "IncompleteSignature", "the Authorization field is not as it should be")
	}
	id, day, region, service, signed, signature := parts[1], parts[2], parts[3], parts[4], parts[5], parts[6]
	s.mu.Lock()
	key, known := s.keys[id]
	s.mu.Unlock()
	now := s.options.Clock.Now().UTC()
	date, err := time.Parse(dateForm, r.Header.Get("X-Amz-Date"))
	switch {
	case !known, key.session != r.Header.Get("X-Amz-Security-Token"):
		return refuse(http.StatusForbidden, "InvalidClientTokenId", "the access key or the session token is not known")
	case !key.expires.IsZero() && !now.Before(key.expires):
		return refuse(http.StatusForbidden, "ExpiredToken", "the role's credentials have expired")
	case region != Region || service != "sns":
		return refuse(http.StatusForbidden, "SignatureDoesNotMatch", "the credential's scope is another region or service")
	case err != nil || date.Format("20060102") != day:
		return refuse(http.StatusForbidden, "IncompleteSignature", "X-Amz-Date is no date, or another than the scope's")
	case date.Sub(now).Abs() > maxSkew:
		return refuse(http.StatusForbidden, "RequestExpired", "the request is dated more than 5 minutes away from now")
	}
	names := strings.Split(signed, ";")
	if missing := unsigned(r.Header, names); missing != "" {
		return refuse(http.StatusForbidden, "SignatureDoesNotMatch", "the field "+missing+" must be signed")
	}
	scope := day + "/" + region + "/" + service + "/" + terminator
	toSign := algorithm + "\n" + r.Header.Get("X-Amz-Date") + "\n" + scope + "\n" + hexHash(canonical(r, names, body))
	// The key is derived from the secret step by step.
	derived := []byte("AWS4" + key.secret)
	for _, step := range []string{day, region, service, terminator, toSign} {
		derived = sum(derived, step)
	}
	if !hmac.Equal([]byte(hex.EncodeToString(derived)), []byte(signature)) {
		return refuse(http.StatusForbidden, "SignatureDoesNotMatch", "the signature is another than the server's own")
	}
	return nil
}

// unsigned returns the first field that must be signed and is not, or nothing.
func unsigned(header http.Header, names []string) string {
	if !slices.IsSorted(names) {
		return "order"
	}
	required := []string{"host"}
	for name := range header {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-amz-") {
			required = append(required, name)
		}
	}
	for _, name := range required {
		if !slices.Contains(names, name) {
			return name
		}
	}
	return ""
}

// canonical is the canonical request.
func canonical(r *http.Request, names []string, body []byte) string {
	query := strings.Split(r.URL.RawQuery, "&")
	slices.Sort(query)
	var text strings.Builder
	text.WriteString(r.Method + "\n" + r.URL.EscapedPath() + "\n" + strings.Join(query, "&") + "\n")
	for _, name := range names {
		var value string
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = strconv.FormatInt(r.ContentLength, 10)
		default:
			value = strings.Join(r.Header.Values(name), ",")
		}
		text.WriteString(name + ":" + strings.Join(strings.Fields(value), " ") + "\n")
	}
	text.WriteString("\n" + strings.Join(names, ";") + "\n" + hexHash(string(body)))
	return text.String()
}

func sum(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

func hexHash(text string) string {
	digest := sha256.Sum256([]byte(text))
	return hex.EncodeToString(digest[:])
}
