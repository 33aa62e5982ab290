package apnstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/ens-operator/ens-operator/runtime/push/internal/fake"
)

// Certificate says what a certificate for pushes is for.
type Certificate struct {
	// Topics are listed in an extension; a single one stands in the subject alone, as in Apple's old certificates.
	Topics []string
	// Production and Sandbox are the environments; with neither the certificate does not say.
	Production, Sandbox bool
	// NotAfter is when it expires; in a day if zero.
	NotAfter time.Time
}

// PFX issues a certificate, as a PKCS#12 file.
func (s *Server) PFX(c Certificate, password string) []byte {
	file, serial := issue(s.authority, c, password)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.issued[serial] = c
	return file
}

// ForeignPFX issues a certificate of an authority that no server trusts.
func ForeignPFX(c Certificate, password string) []byte {
	file, _ := issue(fake.NewAuthority("Pear Worldwide Developer Relations"), c, password)
	return file
}

func issue(authority *fake.Authority, c Certificate, password string) (file []byte, serial string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic("apnstest: " + err.Error())
	}
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(24 * time.Hour)
	}
	template := &x509.Certificate{NotAfter: c.NotAfter, Subject: pkix.Name{CommonName: "Apple Push Services"}}
	if len(c.Topics) > 0 {
		template.Subject.ExtraNames = []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}, Value: c.Topics[0]}}
	}
	if len(c.Topics) > 1 {
		template.ExtraExtensions = append(template.ExtraExtensions, extension(6, topicList(c.Topics)))
	}
	if c.Sandbox {
		template.ExtraExtensions = append(template.ExtraExtensions, extension(1, asn1.NullBytes))
	}
	if c.Production {
		template.ExtraExtensions = append(template.ExtraExtensions, extension(2, asn1.NullBytes))
	}
	file = authority.Issue(template, key, password)
	return file, template.SerialNumber.String()
}

// extension is one of Apple's for pushes.
func extension(number int, value []byte) pkix.Extension {
	return pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 6, 3, number}, Value: value}
}

// topicList is the list of topics, each followed by a list of its kinds.
func topicList(topics []string) []byte {
	var parts []asn1.RawValue
	for _, topic := range topics {
		kind := utf8String("app")
		inner, err := asn1.Marshal([]asn1.RawValue{kind})
		if err != nil {
			panic("apnstest: " + err.Error())
		}
		parts = append(parts, utf8String(topic), asn1.RawValue{FullBytes: inner})
	}
	list, err := asn1.Marshal(parts)
	if err != nil {
		panic("apnstest: " + err.Error())
	}
	return list
}

func utf8String(text string) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassUniversal, Tag: asn1.TagUTF8String, Bytes: []byte(text)}
}

// trusts reports whether a certificate is the authority's and in force.
func (s *Server) trusts(certificate *x509.Certificate) bool {
	_, err := certificate.Verify(x509.VerifyOptions{
		Roots: s.authority.Pool, CurrentTime: s.options.Clock.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err == nil
}

// judgeCertificate decides whether a certificate may push to a topic.
func (s *Server) judgeCertificate(certificate *x509.Certificate, authorization, topic string) *refusal {
	s.mu.Lock()
	said, known := s.issued[certificate.SerialNumber.String()]
	s.mu.Unlock()
	isOther := said.Sandbox != said.Production && said.Sandbox != s.options.Sandbox
	switch {
	case !known || !s.trusts(certificate):
		return refuse(http.StatusForbidden, "BadCertificate", "the client certificate is expired or not the authority's")
	case isOther:
		return refuse(http.StatusForbidden, "BadCertificateEnvironment", "the client certificate is for the other environment")
	case authorization != "":
		return refuse(http.StatusForbidden, "InvalidProviderToken", "a provider token beside a client certificate")
	case topic != "" && !slices.Contains(said.Topics, topic):
		return badRequest("TopicDisallowed", "the client certificate is not for this topic")
	}
	return nil
}

var errCertificate = errors.New("the client certificate is expired or not the authority's")

func (s *Server) refuseInHandshake(state tls.ConnectionState) error {
	if len(state.PeerCertificates) > 0 && !s.trusts(state.PeerCertificates[0]) {
		return errCertificate
	}
	return nil
}
