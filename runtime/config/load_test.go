package config_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/ens-operator/ens-operator/runtime/config"
)

func TestLoadReadsTheWholeSet(t *testing.T) {
	t.Parallel()
	set := sampleFiles(t)
	layouts := map[string]func(t *testing.T) string{
		"from a plain folder":         func(t *testing.T) string { return set.write(t, t.TempDir()) },
		"from a volume kubelet keeps": func(t *testing.T) string { _, path := newVolume(t, "1", set); return path },
		"under another name than usual": func(t *testing.T) string {
			path := filepath.Join(t.TempDir(), "acme.yml")
			set.with(config.FileName, nil).with("acme.yml", set[config.FileName]).write(t, filepath.Dir(path))
			return path
		},
	}
	for name, layout := range layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			loaded, err := config.Load(layout(t))
			if err != nil {
				t.Fatal(err)
			}
			expectSample(t, set, loaded)
		})
	}
}

func expectSample(t *testing.T, set fileSet, loaded *config.Loaded) {
	t.Helper()
	if want := sample().Effective(); !reflect.DeepEqual(loaded.Config, want) {
		t.Errorf("got configuration %+v, want %+v", loaded.Config, want)
	}
	if len(loaded.Tokens) != 1 || hex.EncodeToString(loaded.Tokens[0].SHA256[:]) != pin {
		t.Errorf("got tokens %v", loaded.Tokens)
	}
	if got := loaded.DatabaseURL.RevealString(); got != databaseURL {
		t.Errorf("got database URL %q, want it without the line end", got)
	}
	if len(loaded.Keys.KEKs) != 1 || len(loaded.Keys.Webhooks) != 1 {
		t.Errorf("got %d KEKs and %d webhook keys, want one each", len(loaded.Keys.KEKs), len(loaded.Keys.Webhooks))
	}
	block, _ := pem.Decode(set[config.TLSCertificateFile])
	if loaded.Certificate == nil || !bytes.Equal(loaded.Certificate.Certificate[0], block.Bytes) {
		t.Error("the certificate is not the one in the file")
	}
	authority, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	want := x509.NewCertPool()
	want.AddCert(authority)
	if len(loaded.EndpointCAs) != 1 || !want.Equal(loaded.EndpointCAs["branch"]) {
		t.Errorf("got endpoint authorities %v", loaded.EndpointCAs)
	}
	if len(loaded.PushCAs) != 1 || !want.Equal(loaded.PushCAs["apple"]) {
		t.Errorf("got push authorities %v", loaded.PushCAs)
	}
	apple, google := loaded.PushCredentials["apple/key.p8"], loaded.PushCredentials["google/service-account.json"]
	if apple.RevealString() != "the key of Apple" || google.RevealString() != "the account of Google" {
		t.Error("the push credentials are not those in the files")
	}
	if sum := sha256.Sum256(set[config.FileName]); loaded.Hash != hex.EncodeToString(sum[:]) {
		t.Errorf("got hash %s, want that of the configuration file", loaded.Hash)
	}
}

func TestLoadNamesTheFileAndWhatIsWanted(t *testing.T) {
	t.Parallel()
	certificate, key := selfSigned(t)
	otherPair, err := newSelfSigned()
	if err != nil {
		t.Fatal(err)
	}
	cut := certificate[:len(certificate)/2]
	verified := func(authorities string) []byte {
		c := sample()
		c.Database = &config.Database{CABundle: authorities}
		return render(t, c)
	}
	tests := map[string]struct {
		file    string
		content []byte // nil removes the file
		problem string
	}{
		"no configuration":                      {config.FileName, nil, "no such file"},
		"a configuration that is no YAML":       {config.FileName, []byte("\tx"), "YAML"},
		"a configuration of another shape":      {config.FileName, []byte("- a"), "YAML"},
		"an empty configuration":                {config.FileName, []byte{}, "tenant.id"},
		"a configuration that is not valid":     {config.FileName, []byte("tenant: {id: ens_a}"), "endpoints"},
		"an endless configuration":              {config.FileName, bytes.Repeat([]byte("#\n"), 1<<19+1), "larger than 1048576 bytes"},
		"authorities of the database cut short": {config.FileName, verified(string(certificate) + string(cut)), "in database.caBundle"},
		"too large authorities of the database": {config.FileName, verified(strings.Repeat(" ", 330_001)), "larger than 330000 bytes"},
		"no token hashes":                       {config.APITokenHashesFile, nil, "SHA-256 of the token"},
		"empty token hashes":                    {config.APITokenHashesFile, []byte("\n"), "SHA-256 of the token"},
		"a token in the place of its hash":      {config.APITokenHashesFile, []byte("swordfish"), "not the token"},
		"endless token hashes":                  {config.APITokenHashesFile, bytes.Repeat([]byte(pin+"\n"), 1100), "larger than"},
		"no database URL":                       {config.DatabaseURLFile, nil, "connection string"},
		"an empty database URL":                 {config.DatabaseURLFile, []byte(" \n"), "is empty"},
		"a password in the place of the URL":    {config.DatabaseURLFile, []byte("swordfish"), "connection string"},
		"two database URLs":                     {config.DatabaseURLFile, []byte(databaseURL + "\n" + databaseURL), "one line"},
		"a URL of another database":             {config.DatabaseURLFile, []byte("mysql://me:swordfish@db/ens"), "not a connection string of Postgres"},
		"no KEK":                                {"keys/kek-1", nil, "no kek-<number> file"},
		"no webhook key":                        {"keys/webhook-1", nil, "no webhook-<number> file"},
		"a key that is cut short":               {"keys/kek-1", []byte("c3dvcmRmaXNo"), "32 bytes"},
		"an endless key":                        {"keys/kek-1", bytes.Repeat([]byte("A"), 129), "larger than"},
		"no certificate":                        {config.TLSCertificateFile, nil, "certificate chain"},
		"no certificate key":                    {config.TLSKeyFile, nil, "certificate chain"},
		"a certificate that is cut short":       {config.TLSCertificateFile, cut, "certificate chain"},
		"the certificate of another key":        {config.TLSCertificateFile, otherPair[0], "does not match"},
		"a certificate key that is too large":   {config.TLSKeyFile, bytes.Repeat([]byte("\n"), 13_001), "larger than 13000 bytes"},
		"a certificate chain that is too large": {config.TLSCertificateFile, bytes.Repeat([]byte("\n"), 95_001), "larger than 95000 bytes"},
		"no authority of an endpoint":           {"endpoints/branch/ca.crt", nil, "CA certificates"},
		"an empty authority":                    {"endpoints/branch/ca.crt", []byte{}, "holds no certificate"},
		"a key among the authorities":           {"endpoints/branch/ca.crt", append(bytes.Clone(certificate), key...), "block 2 is a PRIVATE KEY"},
		"an authority that is cut short":        {"endpoints/branch/ca.crt", append(bytes.Clone(certificate), cut...), "damaged"},
		"an authority that is garbage inside":   {"endpoints/branch/ca.crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), "certificate 1"},
		"authorities that are too large":        {"push/apple/ca.crt", bytes.Repeat(certificate, 330_000/len(certificate)+1), "larger than 330000 bytes"},
		"no authority of a provider":            {"push/apple/ca.crt", nil, "CA certificates"},
		"no key of Apple":                       {"push/apple/key.p8", nil, "push provider apple"},
		"an empty key of Apple":                 {"push/apple/key.p8", []byte("\n"), "is empty"},
		"no service account of Google":          {"push/google/service-account.json", nil, "push provider google"},
		"a service account that is too large":   {"push/google/service-account.json", bytes.Repeat([]byte(" "), 16<<10+1), "larger than"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := sampleFiles(t).with(test.file, test.content)
			folder := t.TempDir()
			_, err := config.Load(set.write(t, folder))
			if err == nil {
				t.Fatal("loaded, want an error")
			}
			file := test.file
			if filepath.Dir(file) == config.KeysFolder {
				file = config.KeysFolder
			}
			for _, part := range []string{filepath.Join(folder, file) + ": ", test.problem} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the error does not say %q: %v", part, err)
				}
			}
			if strings.Contains(err.Error(), "swordfish") || strings.Contains(err.Error(), "c3dvcmRmaXNo") {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

func TestLoadNamesAllFilesThatAreMissing(t *testing.T) {
	t.Parallel()
	set := fileSet{config.FileName: render(t, sample())}
	_, err := config.Load(set.write(t, t.TempDir()))
	if err == nil {
		t.Fatal("loaded, want an error")
	}
	for _, part := range []string{
		config.APITokenHashesFile, config.DatabaseURLFile, config.KeysFolder, config.TLSCertificateFile, config.TLSKeyFile,
		"endpoints/branch/ca.crt", "push/apple/ca.crt", "push/apple/key.p8", "push/google/service-account.json",
	} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not name %s:\n%v", part, err)
		}
	}
}

func TestLoadShowsTheFolderItWasGivenAndNotKubeletsOwn(t *testing.T) {
	t.Parallel()
	v, path := newVolume(t, "1", sampleFiles(t).with(config.DatabaseURLFile, nil))
	_, err := config.Load(path)
	if err == nil || !strings.Contains(err.Error(), filepath.Join(v.folder, config.DatabaseURLFile)) || strings.Contains(err.Error(), "..version") {
		t.Errorf("got %v, want an error with the path as the user knows it", err)
	}
}

func TestLoadWithoutOptionalFilesDoesNotLookForThem(t *testing.T) {
	t.Parallel()
	c := sample()
	c.Server.TLS = false
	c.Endpoints = c.Endpoints[:1]
	c.PushProviders = c.PushProviders[1:]
	set := sampleFiles(t)
	for name := range set {
		if strings.HasPrefix(name, "tls/") || strings.HasSuffix(name, "ca.crt") || strings.HasPrefix(name, "push/apple/") {
			set = set.with(name, nil)
		}
	}
	loaded, err := config.Load(set.with(config.FileName, render(t, c)).write(t, t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	if loaded.Certificate != nil || len(loaded.EndpointCAs) != 0 || len(loaded.PushCAs) != 0 {
		t.Errorf("got certificate %v, authorities %v and %v, want none", loaded.Certificate, loaded.EndpointCAs, loaded.PushCAs)
	}
}

func TestLoadReadsNothingButFiles(t *testing.T) {
	t.Parallel()
	set := sampleFiles(t).with(config.DatabaseURLFile, nil).with(config.DatabaseURLFile+"/a", []byte("x"))
	if _, err := config.Load(set.write(t, t.TempDir())); err == nil || !strings.Contains(err.Error(), "is not a file") {
		t.Errorf("got %v, want an error about the folder", err)
	}
}

func TestParseIgnoresTheFieldsOfANewerOperator(t *testing.T) {
	t.Parallel()
	content := append(render(t, sample()), []byte("mailSource: {graph: {tenant: example}}\n")...)
	content = bytes.Replace(content, []byte("tenant:"), []byte("tenant:\n  colour: blue"), 1)
	got, err := config.Parse(content)
	if err != nil {
		t.Fatal(err)
	}
	if want := sample().Effective(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestParseIsNotBlownUpByAliases(t *testing.T) {
	t.Parallel()
	var bomb strings.Builder
	bomb.WriteString("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n")
	for i := range 9 {
		alias := fmt.Sprintf("*a%d", i)
		fmt.Fprintf(&bomb, "a%d: &a%d [%s]\n", i+1, i+1, strings.Join([]string{alias, alias, alias, alias, alias, alias, alias, alias, alias, alias}, ","))
	}
	if _, err := config.Parse([]byte(bomb.String())); err == nil || !strings.Contains(err.Error(), "alias") {
		t.Errorf("got %v, want an error about the aliases", err)
	}
}

func TestALoadedConfigurationShowsNoSecret(t *testing.T) {
	t.Parallel()
	set := sampleFiles(t)
	loaded, err := config.Load(set.write(t, t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		fmt.Fprintf(&out, verb+"\n", loaded)
		fmt.Fprintf(&out, verb+"\n", *loaded)
	}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("loaded", "configuration", loaded)
	slog.New(slog.NewTextHandler(&out, nil)).Info("loaded", "configuration", loaded, "value", *loaded)
	if err := json.NewEncoder(&out).Encode(loaded); err != nil {
		t.Fatal(err)
	}
	// A P-256 key prints as its number D, as Go shows private keys.
	private := loaded.Certificate.PrivateKey
	scalar := reflect.ValueOf(private).Elem().FieldByName("D").Interface()
	for _, secret := range []string{
		"swordfish", "the key of Apple", "the account of Google", string(set["keys/kek-1"]), fmt.Sprint(scalar), fmt.Sprintf("%x", scalar),
		fmt.Sprintf("%d", []byte(databaseURL)), fmt.Sprintf("%d", loaded.Keys.KEKs[1].Reveal()),
	} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("%q was printed:\n%s", secret, out.String())
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add(render(f, sample()))
	f.Add([]byte("tenant: {id: ens_a}\nendpoints: [{}]\n"))
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("server: {drainDelaySeconds: null, basePaths: [/a, /A]}"))
	f.Fuzz(func(t *testing.T, content []byte) {
		c, err := config.Parse(content)
		if err != nil {
			return
		}
		if err := c.Validate(); err != nil {
			t.Fatalf("what was accepted is not valid: %v", err)
		}
		again, err := config.Parse(render(t, c))
		if err != nil || !reflect.DeepEqual(again, c) {
			t.Fatalf("written and read again it is %+v, %v, want %+v", again, err, c)
		}
	})
}
