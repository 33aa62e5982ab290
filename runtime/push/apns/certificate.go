package apns

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/pfx"
)

const (
	reasonCertificateExpired = "CertificateExpired"
	reasonCertificateRefused = "CertificateRefused"
)

var (
	// errCertificateExpired ends a push without Apple being asked.
	errCertificateExpired = errors.New("the APNs certificate has expired: make a new one in Apple's developer account")
	errCertificateRefused = errors.New("the APNs certificate was refused in the TLS handshake: it may have been revoked, " +
		"or be no certificate for APNs")
)

// openCertificate opens the client certificate, and finds out whether it is good for what is configured.
func openCertificate(file pfx.File, c config.APNs) (*tls.Certificate, error) {
	opened, err := file.Open()
	if err != nil {
		return nil, fmt.Errorf("the APNs certificate cannot be used: %w", err)
	}
	said, err := config.ReadPushCertificate(opened.Leaf)
	if err == nil {
		err = said.Serves(c.Topics, c.Environment)
	}
	if err != nil {
		return nil, fmt.Errorf("the APNs certificate cannot be used: %w", err)
	}
	return &opened, nil
}

// present shows the certificate whatever the server says of authorities, so that it is Apple who judges it.
func present(certificate *tls.Certificate) func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate, nil }
}

// isRefusal reports whether the server ended a connection because of our certificate. In TLS 1.3 the server judges it only
// when the client takes the handshake for done, so this may be the answer to a request.
func isRefusal(err error) bool {
	alert, ok := errors.AsType[*net.OpError](err)
	// crypto/tls names each alert that is about a certificate so (RFC 8446, section 6.2).
	return ok && alert.Op == "remote error" && strings.Contains(alert.Err.Error(), "certificate")
}

// NotAfter is when the provider's credential expires, zero for never.
func (p *Provider) NotAfter() time.Time {
	if p.certificate == nil {
		return time.Time{}
	}
	return p.certificate.Leaf.NotAfter
}
