package config

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"

	"github.com/ens-operator/ens-operator/runtime/secret"
)

// maxConfigFile is the largest configuration that is read, in bytes: a Kubernetes object cannot be larger.
const maxConfigFile = 1 << 20

// kubeletDataLink is what kubelet calls the link to the folder that holds all files of one version of a volume.
const kubeletDataLink = "..data"

// maxSwaps is how often the files may be swapped while they are read before Load gives up; kubelet does it about once
// a minute at most.
const maxSwaps = 3

// Loaded is the configuration with all the files that belong to it, read at one moment. It is not changed after it was
// loaded, so it may be shared.
type Loaded struct {
	// Config is effective and valid.
	Config Config
	// Tokens are the API tokens that are accepted.
	Tokens APITokens
	// DatabaseURL is the connection string as it was given; which of its parameters count is the store's matter.
	DatabaseURL secret.Value
	// Keys are the tenant's long-lived keys.
	Keys Keys
	// Certificate is the listener's, nil without Server.TLS.
	Certificate *tls.Certificate `json:"-"`
	// EndpointCAs are the authorities of the endpoints with Pinning.CertificateAuthority, by endpoint.
	EndpointCAs map[string]*x509.CertPool `json:"-"`
	// AutodiscoverCAs are the authorities that Autodiscover's hosts are verified against, nil for the system's.
	AutodiscoverCAs *x509.CertPool `json:"-"`
	// DatabaseCAs are the authorities that the database is verified against, nil for the system's.
	DatabaseCAs *x509.CertPool `json:"-"`
	// TracingCAs are the authorities that the collector of traces is verified against, nil for the system's.
	TracingCAs *x509.CertPool `json:"-"`
	// PushCredentials are the contents of the credential files, by what PushCredential calls them.
	PushCredentials map[string]secret.Value
	// WebIdentityTokens are the paths of the token files of the providers that take a role with one, by provider.
	WebIdentityTokens map[string]string
	// PushCAs are the authorities of the providers with CABundle, by provider.
	PushCAs map[string]*x509.CertPool `json:"-"`
	// Hash is the hex SHA-256 of the configuration file, by which the operator sees which one a replica runs with.
	Hash string

	// digest is over all files, to see whether anything changed.
	digest [sha256.Size]byte
	// folders are those the files are in, to watch.
	folders []string
}

// String names the configuration without showing it.
func (l *Loaded) String() string { return "configuration " + l.Hash }

// LogValue implements slog.LogValuer.
func (l *Loaded) LogValue() slog.Value { return slog.StringValue(l.String()) }

// Parse reads the content of a configuration file and returns it effective and validated. Unknown fields are ignored.
func Parse(content []byte) (Config, error) {
	if len(content) > maxConfigFile {
		return Config{}, fmt.Errorf("the configuration is larger than %d bytes", maxConfigFile)
	}
	var c Config
	if err := yaml.Unmarshal(content, &c); err != nil {
		return Config{}, fmt.Errorf("the configuration is not the YAML that is wanted: %w", err)
	}
	c = c.Effective()
	if err := c.Validate(); err != nil {
		return Config{}, fmt.Errorf("the configuration is not valid: %w", err)
	}
	return c, nil
}

// Load reads the configuration file at path and all the files that belong to it, which are in the same folder. It
// names every file that is missing or wrong at once. In a volume that kubelet keeps, all files are of the same version.
func Load(path string) (*Loaded, error) {
	for range maxSwaps {
		folder := versionFolder(path)
		loaded, err := load(path, folder)
		if versionFolder(path) == folder {
			return loaded, err
		}
	}
	return nil, fmt.Errorf("%s: the files kept changing while they were read", filepath.Dir(path))
}

// versionFolder is the folder to read from. Kubelet puts every version of a volume into a folder of its own and then
// swaps one link, so whoever goes through that link for each file may meet both versions.
func versionFolder(path string) string {
	folder := filepath.Dir(path)
	target, err := os.Readlink(filepath.Join(folder, kubeletDataLink))
	if err != nil {
		return folder
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(folder, target)
	}
	return target
}

func load(path, folder string) (*Loaded, error) {
	f := files{shown: filepath.Dir(path), folder: folder, digest: sha256.New()}
	name := filepath.Base(path)
	content := f.read(name, maxConfigFile, "this is where the configuration is expected")
	if len(f.faults) > 0 {
		return nil, errors.Join(f.faults...)
	}
	parsed, err := Parse(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	sum := sha256.Sum256(content)
	loaded := &Loaded{
		Config:      parsed,
		Tokens:      f.tokens(),
		DatabaseURL: f.databaseURL(),
		Keys:        f.keys(),
		EndpointCAs: map[string]*x509.CertPool{},
		PushCAs:     map[string]*x509.CertPool{},
		Hash:        hex.EncodeToString(sum[:]),
	}
	if parsed.Server.TLS {
		loaded.Certificate = f.certificate()
	}
	for _, endpoint := range parsed.Endpoints {
		if endpoint.Pinning.CertificateAuthority {
			loaded.EndpointCAs[endpoint.Name] = f.authorities(filepath.Join(EndpointsFolder, endpoint.Name, CABundleFile))
		}
	}
	if parsed.Autodiscover != nil && parsed.Autodiscover.CABundle {
		loaded.AutodiscoverCAs = f.authorities(filepath.Join(AutodiscoverFolder, CABundleFile))
	}
	if parsed.Database != nil && parsed.Database.CABundle != "" {
		loaded.DatabaseCAs = f.databaseCAs(name, parsed.Database.CABundle)
	}
	if parsed.Tracing != nil && parsed.Tracing.CABundle {
		loaded.TracingCAs = f.authorities(filepath.Join(TracingFolder, CABundleFile))
	}
	loaded.PushCredentials = f.pushCredentials(parsed.PushProviders)
	loaded.WebIdentityTokens = f.webIdentityTokens(parsed.PushProviders)
	for _, provider := range parsed.PushProviders {
		if provider.CABundle {
			loaded.PushCAs[provider.Name] = f.authorities(filepath.Join(PushFolder, provider.Name, CABundleFile))
		}
	}
	if len(f.faults) > 0 {
		return nil, errors.Join(f.faults...)
	}
	f.digest.Sum(loaded.digest[:0])
	loaded.folders = f.folders
	return loaded, nil
}
