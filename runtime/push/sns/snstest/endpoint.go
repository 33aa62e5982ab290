package snstest

import (
	"encoding/hex"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// The platforms of applications.
const (
	APNs        = "APNS"
	APNsSandbox = "APNS_SANDBOX"
	FCM         = "GCM"
)

// AddApplication makes a platform application and returns its ARN.
func (s *Server) AddApplication(platform, name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	arn := "arn:aws:sns:" + Region + ":" + Account + ":app/" + platform + "/" + name
	s.applications[arn] = &application{arn: arn, platform: platform}
	return arn
}

// DisableApplication is what happens when Apple or Google does not accept an application's credential any more.
func (s *Server) DisableApplication(arn string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.applications[arn].disabled = true
}

// Unregister removes the app from a phone. Amazon hears of it with the next notification, which it accepts, and
// disables the endpoint.
func (s *Server) Unregister(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone[token] = true
}

// Register installs the app again on a phone, with the same token. Its endpoint stays as it is.
func (s *Server) Register(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.gone, token)
}

// DeleteEndpoint is what an administrator may do: the token's endpoint does not exist any more.
func (s *Server) DeleteEndpoint(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if found := s.endpointOf(token); found != nil {
		delete(s.endpoints, found.arn)
		delete(s.byToken, found.owner())
	}
}

// SetUserData is what an administrator may do: the token's endpoint has an attribute that the runtime did not give it.
func (s *Server) SetUserData(token, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endpointOf(token).userData = text
}

// Enabled reports whether the token has an endpoint that is enabled.
func (s *Server) Enabled(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.endpointOf(token)
	return found != nil && found.enabled
}

func (s *Server) endpointOf(token string) *endpoint {
	for _, e := range s.endpoints {
		if e.token == token {
			return e
		}
	}
	return nil
}

// act does what a signed request asks for.
func (s *Server) act(form url.Values) (any, *refusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch form.Get("Action") {
	case "CreatePlatformEndpoint":
		return s.create(form)
	case "SetEndpointAttributes":
		return nil, s.setAttributes(form)
	case "Publish":
		return s.publish(form)
	default:
		return nil, refuse(http.StatusBadRequest, "InvalidAction", "no such action")
	}
}

// created is the answer to CreatePlatformEndpoint.
type created struct {
	XMLName     struct{} `xml:"CreatePlatformEndpointResult"`
	EndpointARN string   `xml:"EndpointArn"`
}

func (s *Server) create(form url.Values) (any, *refusal) {
	app, token, userData := s.applications[form.Get("PlatformApplicationArn")], form.Get("Token"), form.Get("CustomUserData")
	switch {
	case !strings.HasPrefix(form.Get("PlatformApplicationArn"), "arn:"):
		return nil, invalid("PlatformApplicationArn", "An ARN must have at least 6 elements")
	case app == nil:
		return nil, refuse(http.StatusNotFound, "NotFound", "PlatformApplication does not exist")
	case app.disabled:
		return nil, refuse(http.StatusBadRequest, "PlatformApplicationDisabled", "the application is disabled")
	case token == "":
		return nil, invalid("Token", "cannot be empty")
	case app.platform != FCM && !isHex(token):
		return nil, invalid("Token", "iOS device tokens must be no more than 400 hexadecimal characters")
	}
	if found := s.byToken[owner{app, token}]; found != nil {
		// Whether being disabled is another attribute depends on how it came about.
		differs := found.userData != userData || !found.enabled && s.whim()
		if differs {
			refused := invalid("Token", "the endpoint exists with other attributes")
			refused.message = "Invalid parameter: Token Reason: Endpoint " + found.arn + " already exists with the same Token, but different attributes."
			return nil, refused
		}
		return created{EndpointARN: found.arn}, nil
	}
	made := &endpoint{
		arn:   strings.Replace(app.arn, ":app/", ":endpoint/", 1) + "/" + uuid.NewString(),
		token: token, app: app, enabled: true, userData: userData,
	}
	s.endpoints[made.arn], s.byToken[made.owner()] = made, made
	s.stats.Created++
	return created{EndpointARN: made.arn}, nil
}

// whim draws one of two.
func (s *Server) whim() bool { return !s.options.Calm && s.whims.IntN(2) == 0 }

func isHex(token string) bool {
	const longest = 400
	_, err := hex.DecodeString(token)
	return err == nil && len(token) <= longest
}

func (s *Server) setAttributes(form url.Values) *refusal {
	found := s.endpoints[form.Get("EndpointArn")]
	if found == nil {
		return refuse(http.StatusNotFound, "NotFound", "Endpoint does not exist")
	}
	attributes := entries(form, "Attributes", "key", "value")
	for name, value := range attributes {
		switch {
		case name == "Enabled" && (value == "true" || value == "false"):
		case name == "Token" && value != "":
		case name == "CustomUserData":
		default:
			return invalid("Attributes", "no such attribute or value")
		}
	}
	if value, given := attributes["Enabled"]; given {
		found.enabled = value == "true"
	}
	if value, given := attributes["Token"]; given {
		delete(s.byToken, found.owner())
		found.token = value
		s.byToken[found.owner()] = found
	}
	if value, given := attributes["CustomUserData"]; given {
		found.userData = value
	}
	s.stats.Enabled++
	return nil
}

// entries reads a map in the form that the query API gives it: <name>.entry.<n>.<key> and <name>.entry.<n>.<value>.
func entries(form url.Values, name, key, value string) map[string]string {
	found := make(map[string]string)
	for n := 1; ; n++ {
		prefix := name + ".entry." + strconv.Itoa(n) + "."
		if !form.Has(prefix + key) {
			return found
		}
		found[form.Get(prefix+key)] = form.Get(prefix + value)
	}
}
