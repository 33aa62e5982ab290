package config

import (
	"fmt"
	"strings"
)

// CNS is VMware's Cloud Notification Service. It is experimental: the service is not described in public, so all but its
// address, signature and success (C-01 to C-04) is our own choice.
//
// The certificate that signs is push/<name>/signing.pfx with the password in push/<name>/signing-password.
type CNS struct {
	// Platform is iOS or Android; iOS unless set.
	Platform CNSPlatform `json:"platform,omitempty"`
	// AppIDs are the apps that are served; empty serves all.
	AppIDs []string `json:"appIDs,omitempty"`
	// Environment is where the tokens of iPhones come from; production unless set.
	Environment PushEnvironment `json:"environment,omitempty"`
	// URL is the full address, whose path is what is signed; VMware's unless set (C-01).
	URL string `json:"url,omitempty"`
	// PublicKeySHA256 are SHA-256 fingerprints of public keys (SubjectPublicKeyInfo, 64 lower-case hex digits), one of
	// which must be the server's (C-08). The certificate is verified by its authority too. Empty pins nothing.
	PublicKeySHA256 []string `json:"publicKeySHA256,omitempty"`
	// ClientCertificate is shown to a server that asks for one (C-06); none unless set.
	ClientCertificate CNSClientCertificate `json:"clientCertificate,omitempty"`
}

// CNSPlatform is whose phones a CNS provider serves.
type CNSPlatform string

// The platforms, spelled as in the wire contract.
const (
	CNSPlatformIOS     CNSPlatform = "iOS"
	CNSPlatformAndroid CNSPlatform = "Android"
)

// CNSClientCertificate is the certificate for mutual TLS.
type CNSClientCertificate string

// The certificates for mutual TLS.
const (
	// CNSClientSigning is the certificate that signs.
	CNSClientSigning CNSClientCertificate = "signing"
	// CNSClientOwn is push/<name>/client.pfx with the password in push/<name>/client-password.
	CNSClientOwn CNSClientCertificate = "own"
)

const defaultCNSURL = "https://cns.awmdm.com/nws/notify/apns" // C-01

func (c CNS) effective() CNS {
	setDefault(&c.Platform, CNSPlatformIOS)
	setDefault(&c.URL, defaultCNSURL)
	if c.Platform == CNSPlatformIOS {
		setDefault(&c.Environment, PushProduction)
	}
	return c
}

func (f *findings) cns(field string, c CNS) {
	f.oneOf(field+".platform", string(c.Platform), string(CNSPlatformIOS), string(CNSPlatformAndroid))
	f.appIDs(field+".appIDs", c.AppIDs, "the id of an app")
	switch {
	case c.Platform == CNSPlatformIOS:
		f.oneOf(field+".environment", string(c.Environment), string(PushProduction), string(PushSandbox))
	case c.Environment != "":
		f.add(field+".environment", "is for iPhones only")
	}
	if u := f.url(field+".url", c.URL, "https"); u != nil && strings.Trim(u.Path, "/") == "" {
		f.add(field+".url", "want the full address: its path is what is signed")
	}
	if len(c.PublicKeySHA256) > maxPinned {
		f.add(field+".publicKeySHA256", "want at most %d fingerprints, have %d", maxPinned, len(c.PublicKeySHA256))
	}
	for i, pin := range c.PublicKeySHA256 {
		f.matches(fmt.Sprintf("%s.publicKeySHA256[%d]", field, i), pin, fingerprint, "64 lower-case hex digits")
	}
	if c.ClientCertificate != "" {
		f.oneOf(field+".clientCertificate", string(c.ClientCertificate), string(CNSClientSigning), string(CNSClientOwn))
	}
}

// credentialFiles are the files that a CNS provider of that name needs.
func (c CNS) credentialFiles(provider string) []credentialFile {
	of := " of push provider " + provider
	files := []credentialFile{
		{CNSSigningFile, maxPFXFile, "want the certificate that signs (PKCS#12)" + of},
		{CNSSigningPasswordFile, maxPasswordFile, "want the password of the certificate that signs" + of},
	}
	if c.ClientCertificate == CNSClientOwn {
		files = append(files,
			credentialFile{CNSClientFile, maxPFXFile, "want the client certificate (PKCS#12)" + of},
			credentialFile{CNSClientPasswordFile, maxPasswordFile, "want the password of the client certificate" + of})
	}
	return files
}
