package ews

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/credential"
)

// authenticate puts the user's credential on request and returns the transport to send it by.
//
// Basic authenticates each request and shares the endpoint's pool. Schemes that authenticate the connection (NTLM,
// Negotiate, client certificates) will return a transport of their own here: no request may ever run on a connection
// that another user authenticated (E-17).
func (s *Session) authenticate(request *http.Request) (http.RoundTripper, error) {
	switch s.credential.AuthType {
	case credential.Basic:
		if !slices.Contains(s.client.options.Endpoint.AuthenticationMethods, config.AuthBasic) {
			return nil, fmt.Errorf("%w: the endpoint %q does not allow %s", ErrAuthType, s.client.Endpoint(), credential.Basic)
		}
		return s.client.pool, authenticateBasic(request, s.credential)
	default:
		return nil, fmt.Errorf("%w: %s", ErrAuthType, s.credential.AuthType)
	}
}

// authenticateBasic sets the Authorization header, in UTF-8. The header is a string and cannot be wiped; it lives as
// long as the request.
func authenticateBasic(request *http.Request, user credential.Credential) error {
	name, password := user.Username.Reveal(), user.Password.Reveal()
	if len(name) == 0 || slices.Contains(name, ':') {
		return fmt.Errorf("%w: Basic needs a user name without a colon", ErrAuthType)
	}
	pair := slices.Concat(name, []byte(":"), password)
	defer clear(pair)
	request.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString(pair))
	return nil
}
