package config

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ens-operator/ens-operator/runtime/secret"
)

// The largest files that are read beside the configuration, in bytes. The limits for PEM are those that cert-manager
// derived from the largest keys and chains in use after a parser of it had gone super-linear (CVE-2024-12401).
const (
	maxTokensFile         = 64 << 10 // some 700 tokens
	maxDatabaseURLFile    = 4 << 10
	maxPrivateKeyFile     = 13_000  // a 16-kbit RSA key
	maxChainFile          = 95_000  // a certificate and its intermediates
	maxBundleFile         = 330_000 // certificate authorities
	maxServiceAccountFile = 16 << 10
	maxAccessKeyFile      = 1 << 10  // an access key's halves have 20 and 40 characters
	maxPFXFile            = 32 << 10 // a key of 4,096 bits and a chain
	maxPasswordFile       = 1 << 10
	maxWebIdentityToken   = 16 << 10 // STS takes 20,000 characters, a service account's token has some 1,200
)

// files reads the files of one version and gathers what is wrong with them.
type files struct {
	// folder is where they are read from, shown what the folder is called in errors.
	folder, shown string
	digest        hash.Hash
	// folders are those that were read from.
	folders []string
	faults  []error
}

// fault notes that something is wrong with the file called name, and what to do about it.
func (f *files) fault(name string, err error, remedy string) {
	f.faults = append(f.faults, fmt.Errorf("%s: %w: %s", filepath.Join(f.shown, name), err, remedy))
}

// read returns the content of a file; nil with a fault noted if that failed. The digest covers every content read.
func (f *files) read(name string, limit int64, remedy string) []byte {
	f.sees(filepath.Dir(name))
	content, err := readFile(filepath.Join(f.folder, name), limit)
	if err != nil {
		f.fault(name, err, remedy)
		return nil
	}
	f.covers(name, content)
	return content
}

func (f *files) sees(folder string) {
	if folder = filepath.Join(f.folder, folder); !slices.Contains(f.folders, folder) {
		f.folders = append(f.folders, folder)
	}
}

func (f *files) covers(name string, content []byte) {
	// Lengths first, so that no two sets of files run together to the same bytes.
	lengths := binary.BigEndian.AppendUint64(nil, uint64(len(name)))
	f.digest.Write(binary.BigEndian.AppendUint64(lengths, uint64(len(content))))
	f.digest.Write([]byte(name))
	f.digest.Write(content)
}

// readFile reads a regular file of at most limit bytes. Its errors do not repeat the path.
func readFile(path string, limit int64) ([]byte, error) {
	// Anything but a file, a pipe for one, might never end or never begin.
	if info, err := os.Stat(path); err != nil {
		return nil, cause(err)
	} else if !info.Mode().IsRegular() {
		return nil, errors.New("is not a file")
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, cause(err)
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, cause(err)
	}
	if int64(len(content)) > limit {
		return nil, fmt.Errorf("is larger than %d bytes", limit)
	}
	return content, nil
}

// cause is what is left of a file's error when its path, which kubelet makes up anew for every version, is taken away.
func cause(err error) error {
	if pathError, ok := errors.AsType[*fs.PathError](err); ok {
		return pathError.Err
	}
	return err
}

// ErrAPITokens says that the file with the hashes of the API tokens could not be taken.
var ErrAPITokens = errors.New("the API tokens cannot be loaded")

func (f *files) tokens() APITokens {
	before := len(f.faults)
	tokens := f.readTokens()
	for i, fault := range f.faults[before:] {
		f.faults[before+i] = fmt.Errorf("%w: %w", ErrAPITokens, fault)
	}
	return tokens
}

func (f *files) readTokens() APITokens {
	const remedy = "want one line `<hex SHA-256 of the token> [<RFC 3339 expiry>]` for each API token"
	content := f.read(APITokenHashesFile, maxTokensFile, remedy)
	if content == nil {
		return nil
	}
	tokens, err := ParseAPITokens(string(content))
	if err != nil {
		f.fault(APITokenHashesFile, err, remedy)
	}
	return tokens
}

func (f *files) databaseURL() secret.Value {
	const remedy = "want the connection string of the tenant's database, e.g. postgres://user:password@host:5432/database"
	content := f.read(DatabaseURLFile, maxDatabaseURLFile, remedy)
	if content == nil {
		return secret.Value{}
	}
	content = bytes.TrimSpace(content)
	if err := looksLikeConnectionString(content); err != nil {
		f.fault(DatabaseURLFile, err, remedy)
	}
	return secret.New(content)
}

// looksLikeConnectionString finds gross mistakes, such as a password alone. Its errors show nothing of the content.
func looksLikeConnectionString(content []byte) error {
	switch {
	case len(content) == 0:
		return errors.New("is empty")
	case bytes.ContainsAny(content, "\x00\r\n"):
		return errors.New("is more than one line")
	case bytes.HasPrefix(content, []byte("postgres://")), bytes.HasPrefix(content, []byte("postgresql://")):
		return nil
	case bytes.Contains(content, []byte("host=")): // the form of key=value words
		return nil
	default:
		return errors.New("is not a connection string of Postgres")
	}
}

func (f *files) keys() Keys {
	const remedy = "want the files " + KEKPrefix + "<number> and " + WebhookPrefix + "<number>, each 32 random bytes in base64"
	f.sees(KeysFolder)
	contents, err := readKeyFiles(filepath.Join(f.folder, KeysFolder))
	if err != nil {
		f.fault(KeysFolder, err, remedy)
		return Keys{}
	}
	for _, name := range slices.Sorted(maps.Keys(contents)) {
		f.covers(filepath.Join(KeysFolder, name), contents[name])
	}
	keys, err := ParseKeys(contents)
	if err != nil {
		f.fault(KeysFolder, err, remedy)
	}
	return keys
}

func (f *files) certificate() *tls.Certificate {
	const remedy = "want the certificate chain in tls.crt and its key in tls.key, both in PEM, because server.tls is set"
	chain := f.read(TLSCertificateFile, maxChainFile, remedy)
	key := f.read(TLSKeyFile, maxPrivateKeyFile, remedy)
	if chain == nil || key == nil {
		return nil
	}
	certificate, err := tls.X509KeyPair(chain, key)
	if err != nil {
		f.fault(TLSCertificateFile, err, remedy)
		return nil
	}
	return &certificate
}

func (f *files) authorities(name string) *x509.CertPool {
	const remedy = "want one or more CA certificates in PEM and nothing else"
	content := f.read(name, maxBundleFile, remedy)
	if content == nil {
		return nil
	}
	pool, err := parseAuthorities(content)
	if err != nil {
		f.fault(name, err, remedy)
	}
	return pool
}

// databaseCAs are the authorities that stand in the configuration file itself.
func (f *files) databaseCAs(name, bundle string) *x509.CertPool {
	const remedy = "want one or more CA certificates in PEM and nothing else in database.caBundle"
	if len(bundle) > maxBundleFile {
		f.fault(name, fmt.Errorf("database.caBundle is larger than %d bytes", maxBundleFile), remedy)
		return nil
	}
	pool, err := parseAuthorities([]byte(bundle))
	if err != nil {
		f.fault(name, err, remedy)
	}
	return pool
}

// parseAuthorities is strict where x509.CertPool.AppendCertsFromPEM passes over what it cannot read: an authority that
// is missing shows only when a server is refused.
func parseAuthorities(content []byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	count, begun := 0, bytes.Count(content, []byte("-----BEGIN "))
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		count++
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("block %d is a %s, not a certificate", count, block.Type)
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", count, err)
		}
		pool.AddCert(certificate)
	}
	if count == 0 {
		return nil, errors.New("holds no certificate")
	}
	if count != begun {
		return nil, fmt.Errorf("%d of its %d blocks are damaged", begun-count, begun)
	}
	return pool, nil
}

// credentialFile is a file that a push provider needs.
type credentialFile struct {
	name   string
	limit  int64
	remedy string
}

// credentialFiles are the files with the provider's and its proxy's credentials that are read with the configuration.
func (p PushProvider) credentialFiles() []credentialFile {
	return append(p.serviceFiles(), p.Proxy.credentialFiles("push provider "+p.Name)...)
}

func (p PushProvider) serviceFiles() []credentialFile {
	switch {
	case p.APNs != nil:
		return p.APNs.credentialFiles(p.Name)
	case p.FCM != nil:
		return []credentialFile{{FCMServiceAccountFile, maxServiceAccountFile, "want the service account (JSON) of push provider " + p.Name}}
	case p.SNS != nil && p.SNS.RoleARN == "":
		return []credentialFile{
			{SNSAccessKeyIDFile, maxAccessKeyFile, "want the access key id (AKIA…) of push provider " + p.Name},
			{SNSSecretAccessKeyFile, maxAccessKeyFile, "want the secret access key of push provider " + p.Name},
		}
	case p.CNS != nil:
		return p.CNS.credentialFiles(p.Name)
	default:
		return nil
	}
}

// PushCredential names a file of a push provider in Loaded.PushCredentials.
func PushCredential(provider, file string) string { return provider + "/" + file }

func (f *files) pushCredentials(providers []PushProvider) map[string]secret.Value {
	credentials := make(map[string]secret.Value, len(providers))
	for _, provider := range providers {
		for _, file := range provider.credentialFiles() {
			name := filepath.Join(PushFolder, provider.Name, file.name)
			content := f.read(name, file.limit, file.remedy)
			if content != nil && strings.TrimSpace(string(content)) == "" {
				f.fault(name, errors.New("is empty"), file.remedy)
			}
			credentials[PushCredential(provider.Name, file.name)] = secret.New(content)
		}
	}
	return credentials
}

// webIdentityTokens finds the token files of the providers that take a role, and returns their paths by provider. The
// digest does not cover them: a new token changes nothing else.
func (f *files) webIdentityTokens(providers []PushProvider) map[string]string {
	tokens := map[string]string{}
	for _, provider := range providers {
		if provider.SNS == nil || provider.SNS.RoleARN == "" {
			continue
		}
		name := filepath.Join(PushFolder, provider.Name, SNSWebIdentityTokenFile)
		if _, err := readFile(filepath.Join(f.folder, name), maxWebIdentityToken); err != nil {
			f.fault(name, err, "want a token of the cluster's service account for push provider "+provider.Name)
		}
		tokens[provider.Name] = filepath.Join(f.shown, name)
	}
	return tokens
}
