package config_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/ens-operator/ens-operator/runtime/config"
)

const (
	pin         = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	databaseURL = "postgres://acme:swordfish@db:5432/ens"
)

// sample is a valid configuration that uses every kind of file.
func sample() config.Config {
	return config.Config{
		Tenant: config.Tenant{ID: "ens_acme_0123456789", Namespace: "acme", Name: "acme"},
		Server: config.Server{TLS: true, CallbackURL: "https://ens.example.com/MailNotificationService/api/ens"},
		Endpoints: []config.Endpoint{
			{Name: "exchange", URL: "https://mail.example.com/EWS/Exchange.asmx", Pinning: config.Pinning{SHA256: []string{pin}}},
			{Name: "branch", URL: "https://mail.branch.example.com/EWS/Exchange.asmx", Pinning: config.Pinning{CertificateAuthority: true}},
		},
		PushProviders: []config.PushProvider{
			{Name: "apple", CABundle: true, APNs: &config.APNs{
				TeamID: "TEAM123456", KeyID: "KEY1234567", Topics: []string{"com.example.boxer"}, Environment: config.PushProduction,
			}},
			{Name: "google", FCM: &config.FCM{ProjectID: "example-project"}},
		},
	}
}

// fileSet is a folder's content by relative path.
type fileSet map[string][]byte

// sampleFiles are the files of sample.
func sampleFiles(t testing.TB) fileSet {
	t.Helper()
	certificate, key := selfSigned(t)
	set := fileSet{
		config.FileName:                       render(t, sample()),
		config.APITokenHashesFile:             []byte(pin + "\n"),
		config.DatabaseURLFile:                []byte(databaseURL + "\n"),
		config.TLSCertificateFile:             certificate,
		config.TLSKeyFile:                     key,
		"endpoints/branch/ca.crt":             certificate,
		"push/apple/key.p8":                   []byte("the key of Apple"),
		"push/apple/ca.crt":                   certificate,
		"push/google/service-account.json":    []byte("the account of Google"),
		"keys/a-file-that-is-none-of-ours.md": []byte("ignored"),
	}
	for name, content := range config.NewKeyFiles() {
		set[filepath.Join(config.KeysFolder, name)] = content
	}
	return set
}

func render(t testing.TB, c config.Config) []byte {
	t.Helper()
	content, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// with returns a copy of the set with one file changed; nil removes it.
func (s fileSet) with(name string, content []byte) fileSet {
	changed := maps.Clone(s)
	if changed[name] = content; content == nil {
		delete(changed, name)
	}
	return changed
}

// write puts the files into folder and returns the path of the configuration.
func (s fileSet) write(t testing.TB, folder string) string {
	t.Helper()
	for name, content := range s {
		writeFile(t, filepath.Join(folder, name), content)
	}
	return filepath.Join(folder, config.FileName)
}

func writeFile(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// volume is a folder kept as kubelet keeps a projected volume (pkg/volume/util/atomic_writer.go): each version in a
// folder of its own, ..data linking to it, and the names that users see linking through ..data.
type volume struct{ folder string }

func newVolume(t testing.TB, version string, set fileSet) (v volume, path string) {
	t.Helper()
	v = volume{t.TempDir()}
	v.publish(t, version, set)
	for name := range set {
		top, _, _ := strings.Cut(name, "/")
		link := filepath.Join(v.folder, top)
		if _, err := os.Lstat(link); err == nil {
			continue
		}
		if err := os.Symlink(filepath.Join("..data", top), link); err != nil {
			t.Fatal(err)
		}
	}
	return v, filepath.Join(v.folder, config.FileName)
}

// publish writes a version and swaps it in by renaming the link, then removes the version before.
func (v volume) publish(t testing.TB, version string, set fileSet) {
	t.Helper()
	data, next := filepath.Join(v.folder, "..data"), filepath.Join(v.folder, "..data_tmp")
	set.write(t, filepath.Join(v.folder, "..version_"+version))
	before, _ := os.Readlink(data)
	if err := os.Symlink("..version_"+version, next); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, data); err != nil {
		t.Fatal(err)
	}
	if before != "" {
		if err := os.RemoveAll(filepath.Join(v.folder, before)); err != nil {
			t.Fatal(err)
		}
	}
}

// selfSigned returns a certificate and its key in PEM, always the same pair.
func selfSigned(t testing.TB) (certificate, key []byte) {
	t.Helper()
	pair, err := selfSignedOnce()
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(pair[0]), bytes.Clone(pair[1])
}

var selfSignedOnce = sync.OnceValues(newSelfSigned)

func newSelfSigned() (pair [2][]byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "ens.example.com"},
		DNSNames:     []string{"ens.example.com"},
		NotAfter:     time.Now().Add(time.Hour),
		IsCA:         true, BasicConstraintsValid: true,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return pair, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return pair, err
	}
	pair[0] = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})
	pair[1] = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	return pair, nil
}
