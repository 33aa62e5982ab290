package server_test

import (
	"crypto/x509"
	"encoding/asn1"
	"net/http"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/push"
)

func TestACertificateThatHasExpiredIsNotSent(t *testing.T) {
	t.Parallel()
	yesterday := time.Now().Add(-24 * time.Hour)
	for name, test := range map[string]struct {
		change func(*x509.Certificate)
		// message is a part of the refusal, empty if the certificate is taken.
		message string
	}{
		"expired": {
			change: func(c *x509.Certificate) {
				c.NotBefore, c.NotAfter = yesterday.Add(-time.Hour), yesterday
			},
			message: "the client certificate has expired on " + yesterday.UTC().Format(time.DateOnly),
		},
		"for servers only": {
			change:  func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} },
			message: "not for client authentication",
		},
		"for a purpose that nobody knows": {
			change: func(c *x509.Certificate) {
				c.ExtKeyUsage, c.UnknownExtKeyUsage = nil, []asn1.ObjectIdentifier{{1, 2, 3, 4}}
			},
			message: "not for client authentication",
		},
		"for clients and mail": {
			change: func(c *x509.Certificate) {
				c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection, x509.ExtKeyUsageClientAuth}
			},
		},
		"for any purpose": {
			change: func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} },
		},
		"without a purpose, which is any": {change: func(c *x509.Certificate) { c.ExtKeyUsage = nil }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := runtimetest.New(t, runtimetest.Options{
				Exchange:  ewstest.Options{Authentication: []ewstest.Scheme{ewstest.Basic}, ClientCertificates: ewstest.ClientCertificatesAccept},
				Configure: allow(config.AuthClientCertificate),
			})
			x.Start(t)
			phone := x.Phone(alice, push.IOS)
			withCertificateAs(t, x, phone, test.change)
			if test.message == "" {
				runtimetest.MustRegister(t, phone, 7)
				return
			}
			if _, err := phone.PublicKey(t.Context()); err != nil {
				t.Fatal(err)
			}
			answer, err := phone.Register(t.Context())
			wantAnswer(t, answer, err, http.StatusConflict, 14, test.message)
			if n := len(x.Exchange.Requests()); n != 0 {
				t.Errorf("%d requests were sent", n)
			}
		})
	}
}
