package config

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// APNs is Apple's service. It signs in with tokens, whose key is push/<name>/key.p8, or with a TLS client certificate,
// which is push/<name>/certificate.pfx with the password in push/<name>/certificate-password.
type APNs struct {
	// TeamID and KeyID are the key's; empty with a certificate.
	TeamID string `json:"teamID,omitempty"`
	KeyID  string `json:"keyID,omitempty"`
	// Certificate says that there is a client certificate, and no key.
	Certificate bool `json:"certificate,omitempty"`
	// Topics are the bundle ids that are served; a device's appId must be one of them, or empty if there is just one.
	Topics []string `json:"topics"`
	// Environment is production or sandbox.
	Environment PushEnvironment `json:"environment"`
	// URL replaces Apple's server, for tests and the demo.
	URL string `json:"url,omitempty"`
}

func (f *findings) apns(field string, a APNs) {
	switch {
	case !a.Certificate:
		f.matches(field+".teamID", a.TeamID, appleID, "10 capital letters and digits")
		f.matches(field+".keyID", a.KeyID, appleID, "10 capital letters and digits")
	case a.TeamID != "" || a.KeyID != "":
		f.add(field+".certificate", "want either teamID and keyID or certificate")
	}
	if len(a.Topics) == 0 {
		f.add(field+".topics", "want at least one bundle id")
	}
	f.appIDs(field+".topics", a.Topics, "a bundle id")
	f.oneOf(field+".environment", string(a.Environment), string(PushProduction), string(PushSandbox))
	if a.URL != "" {
		f.serverURL(field+".url", a.URL)
	}
}

// credentialFiles are the files that an APNs provider of that name needs.
func (a APNs) credentialFiles(provider string) []credentialFile {
	of := " of push provider " + provider
	if !a.Certificate {
		return []credentialFile{{APNsKeyFile, maxPrivateKeyFile, "want the APNs key (.p8)" + of}}
	}
	return []credentialFile{
		{APNsCertificateFile, maxPFXFile, "want the APNs certificate (PKCS#12)" + of},
		{APNsCertificatePasswordFile, maxPasswordFile, "want the password of the APNs certificate" + of},
	}
}

// PushCertificate is what a certificate for APNs says of itself. Apple describes it nowhere; these are the extensions that
// its certificates have had for years, and one that has none of them is taken as it is.
type PushCertificate struct {
	// Topics are those that may be pushed to; empty if it does not say.
	Topics []string
	// Production and Sandbox are the environments that it is for; neither if it does not say.
	Production, Sandbox bool
}

var (
	oidSandbox    = asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 6, 3, 1}
	oidProduction = asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 6, 3, 2}
	oidTopics     = asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 6, 3, 6}
	// oidUID is the attribute of the subject that holds a certificate's only topic.
	oidUID = asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}
)

var errPushTopics = errors.New("its list of topics (extension 1.2.840.113635.100.6.3.6) cannot be read")

// ReadPushCertificate reads what a certificate says of itself.
func ReadPushCertificate(certificate *x509.Certificate) (PushCertificate, error) {
	var said PushCertificate
	for _, name := range certificate.Subject.Names {
		if text, ok := name.Value.(string); ok && name.Type.Equal(oidUID) && text != "" {
			said.Topics = []string{text}
		}
	}
	for _, extension := range certificate.Extensions {
		switch {
		case extension.Id.Equal(oidSandbox):
			said.Sandbox = true
		case extension.Id.Equal(oidProduction):
			said.Production = true
		case extension.Id.Equal(oidTopics):
			topics, err := parsePushTopics(extension.Value)
			if err != nil {
				return PushCertificate{}, err
			}
			said.Topics = topics
		}
	}
	return said, nil
}

// parsePushTopics reads a sequence in which each topic is followed by a sequence of its kinds (app, voip, …).
func parsePushTopics(der []byte) ([]string, error) {
	var parts []asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &parts); err != nil || len(rest) > 0 {
		return nil, errPushTopics
	}
	var topics []string
	for _, part := range parts {
		if part.Class != asn1.ClassUniversal || part.Tag != asn1.TagUTF8String {
			continue
		}
		topics = append(topics, string(part.Bytes))
	}
	if len(topics) == 0 {
		return nil, errPushTopics
	}
	return topics, nil
}

// Serves returns why the certificate is not good for the topics and the environment, as far as it says; nil if it is.
func (c PushCertificate) Serves(topics []string, environment PushEnvironment) error {
	isSandbox := environment == PushSandbox
	switch {
	case !c.Production && !c.Sandbox: // it does not say
	case isSandbox && !c.Sandbox:
		return errors.New("it is for Apple's production environment alone, and the environment is sandbox")
	case !isSandbox && !c.Production:
		return errors.New("it is for Apple's sandbox environment alone, and the environment is production")
	}
	for _, topic := range topics {
		if len(c.Topics) > 0 && !slices.Contains(c.Topics, topic) {
			return fmt.Errorf("it is not for the topic %s but for %s", topic, list(c.Topics))
		}
	}
	return nil
}

// list shows the first of some topics of a foreign certificate.
func list(topics []string) string {
	const most = 4
	shown := make([]string, 0, most)
	for _, topic := range topics[:min(len(topics), most)] {
		if !appID.MatchString(topic) {
			topic = "(one that is no app's id)"
		}
		shown = append(shown, topic)
	}
	if len(topics) > most {
		shown = append(shown, "…")
	}
	return strings.Join(shown, ", ")
}
