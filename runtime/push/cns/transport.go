package cns

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/push/internal/outbound"
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
func newTransport(o Options, certificates []tls.Certificate) *http.Transport {
	verification := &tls.Config{RootCAs: o.RootCAs, MinVersion: tls.VersionTLS12, Certificates: certificates}
	if pins := slices.Clone(o.Config.PublicKeySHA256); len(pins) > 0 {
		// Other than VerifyPeerCertificate it runs for resumed sessions too.
		verification.VerifyConnection = func(state tls.ConnectionState) error { return verifyPins(state, pins) }
	}
	return outbound.NewTransport(o.Settings, verification)
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
