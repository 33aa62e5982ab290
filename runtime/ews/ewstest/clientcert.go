package ewstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/ens-operator/ens-operator/runtime/ews/internal/localcert"
)

// ClientCertificates is the SSL setting of the virtual directory. Unlike IIS, which asks after it has read the request,
// the fake asks in the handshake: Go's server cannot renegotiate.
type ClientCertificates int

// The settings.
const (
	// ClientCertificatesOff never asks for one.
	ClientCertificatesOff ClientCertificates = iota
	// ClientCertificatesAccept asks for one. A request without Authorization is the certificate's user's.
	ClientCertificatesAccept
	// ClientCertificatesRequire answers 403 to requests without a valid one, whatever else they present.
	ClientCertificatesRequire
)

var (
	oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}
	// oidUPN is the type of the otherName in which Active Directory's certificates hold the user principal name.
	oidUPN = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}
)

// otherName is that of RFC 5280, section 4.2.1.6, with a value of type UTF8String.
type otherName struct {
	TypeID asn1.ObjectIdentifier
	Value  string `asn1:"tag:0,explicit,utf8"`
}

// authority issues the users' certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now() // as package localcert
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(now.UnixNano()),
		Subject:               pkix.Name{CommonName: "fake authority"},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.Add(localcert.Lifetime),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{certificate: certificate, key: key}, nil
}

// IssueCertificate makes a client certificate of the mailbox's user as a PKCS#12 file, with the address as the UPN. The
// encryption is an old or a new one, and the authority's certificate is in the file or not, as the seed has it. change may
// make it another certificate before it is signed.
func (s *Server) IssueCertificate(address string, change ...func(*x509.Certificate)) (pfx []byte, password string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, "", fmt.Errorf("making a client certificate: %w", err)
	}
	certificate, err := s.authority.issue(address, &key.PublicKey, change)
	if err != nil {
		return nil, "", fmt.Errorf("making a client certificate: %w", err)
	}
	s.mu.Lock()
	old, bare := s.awkwardly(), s.awkwardly()
	password = s.randomBase64(9)
	s.mu.Unlock()
	encoder := pkcs12.Modern2023
	if old {
		encoder = pkcs12.LegacyDES
	}
	chain := []*x509.Certificate{s.authority.certificate}
	if bare {
		chain = nil
	}
	pfx, err = encoder.Encode(key, certificate, chain, password)
	if err != nil {
		return nil, "", fmt.Errorf("making a client certificate: %w", err)
	}
	return pfx, password, nil
}

func (a *authority) issue(upn string, key *ecdsa.PublicKey, change []func(*x509.Certificate)) (*x509.Certificate, error) {
	name, err := asn1.MarshalWithParams(otherName{TypeID: oidUPN, Value: upn}, "tag:0")
	if err != nil {
		return nil, err
	}
	names, err := asn1.Marshal([]asn1.RawValue{{FullBytes: name}})
	if err != nil {
		return nil, err
	}
	now := time.Now() // as package localcert
	template := &x509.Certificate{
		SerialNumber:    big.NewInt(now.UnixNano()),
		Subject:         pkix.Name{CommonName: upn},
		NotBefore:       now.Add(-time.Hour),
		NotAfter:        now.Add(localcert.Lifetime),
		KeyUsage:        x509.KeyUsageDigitalSignature,
		ExtKeyUsage:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		ExtraExtensions: []pkix.Extension{{Id: oidSubjectAltName, Value: names}},
	}
	for _, each := range change {
		each(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key, a.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// clientAuth is what the handshake asks for. Whether a certificate is good is judged later, as IIS does: with a 403.
func (c ClientCertificates) clientAuth() tls.ClientAuthType {
	if c == ClientCertificatesOff {
		return tls.NoClientCert
	}
	return tls.RequestClientCert
}

// CertificateUPN returns the user principal name of a client certificate, empty if it has none.
func CertificateUPN(certificate *x509.Certificate) string {
	for _, extension := range certificate.Extensions {
		var names []asn1.RawValue
		if !extension.Id.Equal(oidSubjectAltName) {
			continue
		}
		if _, err := asn1.Unmarshal(extension.Value, &names); err != nil {
			return ""
		}
		for _, name := range names {
			var other otherName
			if _, err := asn1.UnmarshalWithParams(name.FullBytes, &other, "tag:0"); err == nil && other.TypeID.Equal(oidUPN) {
				return other.Value
			}
		}
	}
	return ""
}

// ClientAuthorityPEM is the authority that issues the users' certificates.
func (s *Server) ClientAuthorityPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.authority.certificate.Raw})
}

// trustsClient reports whether the server's authority issued the certificate for client authentication.
func (s *Server) trustsClient(certificate *x509.Certificate) bool {
	roots := x509.NewCertPool()
	roots.AddCert(s.authority.certificate)
	_, err := certificate.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return err == nil
}

// certificateUser is the mailbox that the connection's client certificate is mapped to, nil if there is none; s.mu is
// held.
func (s *Server) certificateUser(r *http.Request) *mailbox {
	if len(r.TLS.PeerCertificates) == 0 || !s.trustsClient(r.TLS.PeerCertificates[0]) {
		return nil
	}
	return s.mailbox(CertificateUPN(r.TLS.PeerCertificates[0]))
}

// certificateSuffices reports whether the request gets past the SSL settings of the virtual directory.
func (s *Server) certificateSuffices(r *http.Request) bool {
	if len(r.TLS.PeerCertificates) == 0 {
		return s.options.ClientCertificates != ClientCertificatesRequire
	}
	return s.trustsClient(r.TLS.PeerCertificates[0])
}
