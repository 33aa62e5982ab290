package cns

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/push/internal/outbound"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

// PinError says that the server's public key is none of those that are pinned.
type PinError struct {
	// Seen is the SHA-256 of the key's SubjectPublicKeyInfo that was seen, 64 hex digits.
	Seen string
}

// Error implements error.
func (e *PinError) Error() string {
	return "the server's public key is not pinned (SHA-256 " + e.Seen + "): if the key was replaced, learn the new one " +
		"from who runs the server and add it to publicKeySHA256; if not, somebody may be in between"
}

// ProxyError says that the forward proxy did not let a connection through.
type ProxyError struct {
	// Status is the proxy's answer to CONNECT.
	Status int
}

// Error implements error.
func (e *ProxyError) Error() string {
	if e.Status == http.StatusProxyAuthRequired {
		return "the proxy wants a user name and a password, or others than it was given"
	}
	return fmt.Sprintf("the proxy answered CONNECT with status %d", e.Status)
}

// clientCertificate is what the service is shown, none if Config says so.
func (o Options) clientCertificate(signing tls.Certificate) ([]tls.Certificate, error) {
	switch o.Config.ClientCertificate {
	case config.CNSClientSigning:
		return []tls.Certificate{signing}, nil
	case config.CNSClientOwn:
		own, err := o.Client.Open()
		if err != nil {
			return nil, fmt.Errorf("the client certificate: %w", err)
		}
		return []tls.Certificate{own}, nil
	default:
		return nil, nil
	}
}

// newTransport returns the transport that makes the connections, on which certificates are shown.
func newTransport(o Options, certificates []tls.Certificate) (*http.Transport, error) {
	verification := &tls.Config{RootCAs: o.RootCAs, MinVersion: tls.VersionTLS12, Certificates: certificates}
	if pins := slices.Clone(o.Config.PublicKeySHA256); len(pins) > 0 {
		// Other than VerifyPeerCertificate it runs for resumed sessions too.
		verification.VerifyConnection = func(state tls.ConnectionState) error { return verifyPins(state, pins) }
	}
	base := outbound.NewTransport(o.DialContext, verification)
	if o.Config.Proxy != nil {
		proxy, err := proxyURL(*o.Config.Proxy, o.ProxyUsername, o.ProxyPassword)
		if err != nil {
			return nil, err
		}
		base.Proxy = http.ProxyURL(proxy)
		base.OnProxyConnectResponse = func(_ context.Context, _ *url.URL, _ *http.Request, answer *http.Response) error {
			if answer.StatusCode != http.StatusOK {
				return &ProxyError{Status: answer.StatusCode}
			}
			return nil
		}
	}
	return base, nil
}

func verifyPins(state tls.ConnectionState, pins []string) error {
	if len(state.PeerCertificates) == 0 {
		return &PinError{}
	}
	sum := sha256.Sum256(state.PeerCertificates[0].RawSubjectPublicKeyInfo)
	if seen := hex.EncodeToString(sum[:]); !slices.Contains(pins, seen) {
		return &PinError{Seen: seen}
	}
	return nil
}

var errProxy = errors.New("the proxy's url must be http:// with host and port, and nothing else")

// proxyURL is the proxy's address, with user name and password if they are wanted.
func proxyURL(c config.ForwardProxy, username, password secret.Value) (*url.URL, error) {
	proxy, err := url.Parse(c.URL)
	if err != nil || proxy.Scheme != "http" || proxy.Hostname() == "" || proxy.Port() == "" || proxy.User != nil || proxy.RawQuery != "" {
		return nil, errProxy
	}
	if c.Authenticate {
		proxy.User = url.UserPassword(line(username), line(password))
	}
	return proxy, nil
}

// line is a secret without the end of the line that editors put there.
func line(v secret.Value) string { return string(bytes.TrimRight(v.Reveal(), "\r\n")) }
