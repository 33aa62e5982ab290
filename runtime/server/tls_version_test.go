package server_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"strings"
	"testing"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/config"
)

// serving is a runtime that serves TLS itself, and the authority that its certificate is trusted by.
type serving struct {
	*runtimetest.Tenant
	address string
	roots   *x509.CertPool
}

func serveTLS(t *testing.T, minimum config.TLSVersion) *serving {
	t.Helper()
	x := runtimetest.New(t, runtimetest.Options{Configure: func(c *config.Config) {
		c.Server.TLS, c.Server.MinTLSVersion = true, minimum
	}})
	roots := writeCertificate(t, x)
	return &serving{x, x.Launch(t).Address, roots}
}

// client speaks only the given version of TLS, on a connection of its own for each request. It keeps sessions.
func (s *serving) client(version uint16) *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
		RootCAs: s.roots, ServerName: "ens.example.com", MinVersion: version, MaxVersion: version,
		ClientSessionCache: tls.NewLRUClientSessionCache(0),
	}}}
}

// alive makes a call and returns how the connection was made.
func (s *serving) alive(client *http.Client) (*tls.ConnectionState, error) {
	response, err := client.Get("https://" + s.address + "/api/ens/alive")
	if err != nil {
		return nil, err
	}
	return response.TLS, response.Body.Close()
}

// refused reports whether the runtime refuses a version of TLS, as such and not for another reason.
func (s *serving) refused(t *testing.T, version uint16) bool {
	t.Helper()
	_, err := s.alive(s.client(version))
	if err != nil && !strings.Contains(err.Error(), "protocol version not supported") {
		t.Fatalf("%s: %v", tls.VersionName(version), err)
	}
	return err != nil
}

var tlsVersions = []uint16{tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12, tls.VersionTLS13}

func TestTheOldestVersionOfTLSIsTheConfiguredOne(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		minimum config.TLSVersion
		oldest  uint16
	}{
		"unless set it is 1.2":     {"", tls.VersionTLS12},
		"it may be set to 1.0":     {config.TLS10, tls.VersionTLS10},
		"it may be lowered to 1.1": {config.TLS11, tls.VersionTLS11},
		"it may be raised to 1.3":  {config.TLS13, tls.VersionTLS13},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serveTLS(t, test.minimum)
			for _, version := range tlsVersions {
				if refused := s.refused(t, version); refused != (version < test.oldest) {
					t.Errorf("%s: refused is %t", tls.VersionName(version), refused)
				}
			}
		})
	}
}

func TestAChangedOldestVersionOfTLSCountsWithoutARestart(t *testing.T) {
	t.Parallel()
	s := serveTLS(t, "")
	kept := s.client(tls.VersionTLS12)
	if _, err := s.alive(kept); err != nil {
		t.Fatal(err)
	}
	for _, change := range []struct {
		minimum config.TLSVersion
		version uint16
		refused bool
	}{
		{config.TLS11, tls.VersionTLS11, false},
		{config.TLS13, tls.VersionTLS12, true},
		{"", tls.VersionTLS12, false},
		{"", tls.VersionTLS11, true},
	} {
		s.Config.Server.MinTLSVersion = change.minimum
		s.WriteConfig(t)
		runtimetest.Eventually(t, func() string {
			if s.refused(t, change.version) != change.refused {
				return "with the minimum " + string(change.minimum) + " " + tls.VersionName(change.version) + " is treated as before"
			}
			return ""
		})
		// A session from before lets nobody in whom a handshake would not.
		if _, err := s.alive(kept); change.minimum == config.TLS13 && err == nil {
			t.Error("a session of an older version goes on after the minimum has been raised")
		}
	}
}

func TestSessionsOfTLSAreResumed(t *testing.T) {
	t.Parallel()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			t.Parallel()
			s := serveTLS(t, "")
			client := s.client(version)
			for connection, want := range []bool{false, true, true} {
				state, err := s.alive(client)
				if err != nil {
					t.Fatal(err)
				}
				if state.DidResume != want {
					t.Errorf("connection %d: resumed is %t, want %t", connection+1, state.DidResume, want)
				}
			}
		})
	}
}
