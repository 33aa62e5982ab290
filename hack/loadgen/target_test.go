package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/runtime/config"
)

// installed is a tenant as it may be installed anywhere: a real runtime behind a proxy that terminates TLS.
type installed struct {
	*scene
	front    *httptest.Server
	endpoint string
	behind   atomic.Pointer[string]
	settings settings
}

func install(t *testing.T) *installed {
	t.Helper()
	x, err := setScene(t.Context(), settings{users: 1, arrangement: arrangement{populate: keysOnly(100)}}, t.Output())
	t.Cleanup(x.close)
	if err != nil {
		t.Fatal(err)
	}
	i := &installed{scene: x}
	i.behind.Store(new("")) // answered 502 until there is one
	i.front = httptest.NewTLSServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", *i.behind.Load()
		},
	})
	t.Cleanup(i.front.Close)
	folder := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	i.settings = settings{
		users: 20, stage: time.Second, exchangeDelay: time.Millisecond, providerDelay: time.Millisecond,
		target: targetSettings{
			url: i.front.URL, listen: "127.0.0.1:0", rate: 100, wait: time.Minute, poll: 100 * time.Millisecond, namespace: "mail", tenant: "load",
			tokenFile: write("token", []byte(apiToken+"\n")),
			caFile:    write("ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.front.Certificate().Raw})),
			manifests: filepath.Join(folder, "target.yaml"),
		},
	}
	return i
}

// load runs the set, applies what it has written as soon as it says so, and tells of the lines that it prints.
func (i *installed) load(ctx context.Context, t *testing.T, heard func(line string)) (*report, error) {
	t.Helper()
	read, write := io.Pipe()
	type outcome struct {
		report *report
		err    error
	}
	ended := make(chan outcome, 1)
	go func() {
		r, err := target(ctx, i.settings, write)
		ended <- outcome{r, err}
		_ = write.Close()
	}()
	for lines := bufio.NewScanner(read); lines.Scan(); {
		_, _ = t.Output().Write(append(lines.Bytes(), '\n'))
		if _, patch, found := strings.Cut(lines.Text(), " patch enstenant load --type=merge -p '"); found {
			i.apply(t, strings.TrimSuffix(patch, "'"))
		}
		heard(lines.Text())
	}
	o := <-ended
	return o.report, o.err
}

// apply does with the manifests what the operator does with them, once the tenant is patched.
func (i *installed) apply(t *testing.T, patch string) {
	t.Helper()
	content, err := os.ReadFile(i.settings.target.manifests)
	if err != nil {
		t.Fatal(err)
	}
	var authority corev1.ConfigMap
	var key corev1.Secret
	var endpoint v1alpha1.EwsEndpoint
	var provider v1alpha1.PushProvider
	objects := []any{&authority, &key, &endpoint, &provider}
	parts := bytes.Split(content, []byte("\n---\n"))
	if len(parts) != len(objects) {
		t.Fatalf("%d objects, want %d", len(parts), len(objects))
	}
	for n, part := range parts {
		if err := yaml.UnmarshalStrict(part, objects[n]); err != nil {
			t.Fatal(err)
		}
	}
	var tenant v1alpha1.EnsTenant
	if err := yaml.UnmarshalStrict([]byte(patch), &tenant); err != nil {
		t.Fatal(err)
	}
	if string(tenant.Spec.Endpoints[0]) != endpoint.Name || string(tenant.Spec.PushProviders[0]) != provider.Name || endpoint.Namespace != "mail" {
		t.Errorf("the tenant is led to %v and %v, which are not there", tenant.Spec.Endpoints, tenant.Spec.PushProviders)
	}
	folder := filepath.Join(i.folder, "config")
	file := func(name string, content []byte) {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var c config.Config
	if content, err = os.ReadFile(filepath.Join(folder, config.FileName)); err == nil {
		err = yaml.UnmarshalStrict(content, &c)
	}
	if err != nil {
		t.Fatal(err)
	}
	i.endpoint = string(endpoint.Spec.URL)
	apns := provider.Spec.APNs
	c.Server.CallbackURL = i.front.URL + basePath
	c.Endpoints[0].URL, c.Endpoints[0].Pinning.SHA256 = string(endpoint.Spec.URL), []string{string(endpoint.Spec.Pinning.Pinned.SHA256[0])}
	c.PushProviders[0].APNs.URL, c.PushProviders[0].APNs.Topics = string(apns.URL), []string{string(apns.Topics[0])}
	c.PushProviders[0].APNs.TeamID, c.PushProviders[0].APNs.KeyID = string(apns.TeamID), string(apns.KeyID)
	if content, err = yaml.Marshal(c); err != nil {
		t.Fatal(err)
	}
	file(config.FileName, content)
	file(filepath.Join(config.PushFolder, providerName, config.APNsKeyFile), []byte(key.StringData[string(apns.KeySecretRef.Key)]))
	file(filepath.Join(config.PushFolder, providerName, config.CABundleFile), []byte(authority.Data[string(provider.Spec.CABundle.ConfigMap.Key)]))
	if i.runtime != nil {
		if err := i.runtime.stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := i.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	i.behind.Store(new(i.address))
}

// devices are the phones that the runtime knows.
func (i *installed) devices(t *testing.T) (count int) {
	t.Helper()
	if err := i.pool.QueryRow(t.Context(), `SELECT count(*) FROM devices`).Scan(&count); err != nil {
		t.Fatal(err)
	}
	return count
}

// TestATenantThatIsInstalledIsLoaded loads one twice, since it remembers the mails and phones of the first time. Whoever ends the
// load generator leaves no phones behind.
func TestATenantThatIsInstalledIsLoaded(t *testing.T) {
	t.Parallel()
	i := install(t)
	for range 2 {
		phones := 0
		r, err := i.load(t.Context(), t, func(line string) {
			if strings.Contains(line, "events a second") {
				phones = i.devices(t)
			}
		})
		r.print(t.Output())
		if err != nil {
			t.Fatal(err)
		}
		checkLoad(t, r.values())
		if left := i.devices(t); phones != i.settings.users || left != 0 {
			t.Errorf("%d phones were there under load and %d are left, want %d and none", phones, left, i.settings.users)
		}
	}
	ctx, end := context.WithTimeout(t.Context(), time.Minute) // it has to end long before
	i.settings.stage = time.Hour
	for _, ending := range []struct {
		name string
		end  func()
		want string
	}{
		{"a user of the tenant's own asks for mail", func() { i.askAsSomebodyElse(t) }, "has the tenant users of its own?"},
		{"it is interrupted", end, context.Canceled.Error()},
	} {
		phones := 0
		_, err := i.load(ctx, t, func(line string) {
			if strings.Contains(line, "events a second") {
				phones = i.devices(t)
				ending.end()
			}
		})
		if err == nil || !strings.Contains(err.Error(), ending.want) {
			t.Errorf("%s: the error is %v, want one about %q", ending.name, err, ending.want)
		}
		if left := i.devices(t); phones != i.settings.users || left != 0 {
			t.Errorf("%s: %d phones were there and %d are left, want %d and none", ending.name, phones, left, i.settings.users)
		}
	}
}

// askAsSomebodyElse is what the runtime does for a user that the load generator does not know.
func (i *installed) askAsSomebodyElse(t *testing.T) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, i.endpoint, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.SetBasicAuth("alice@example.com", "secret")
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // it is for no secret
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
}

func checkLoad(t *testing.T, values map[string]float64) {
	t.Helper()
	const some = 0.001
	for name, least := range map[string]float64{
		"posts that were taken": 100, "rate": some, "answer, p50": some, "answer, p99": some, "mails told": 20,
		"event to acceptance, p50": some, "event to acceptance, p99": some,
	} {
		if values["load/"+name] < least {
			t.Errorf("%s is %v, want at least %v", name, values["load/"+name], least)
		}
	}
	for _, name := range []string{"notifications lost", "notifications shown twice", "posts that Exchange gave up", "phones asked to register again"} {
		if value, measured := values["load/"+name]; !measured || value != 0 {
			t.Errorf("%s is %v, want 0", name, value)
		}
	}
}

// TestAnInstallationIsLoadedWithinBounds and not at all if it is not said how.
func TestAnInstallationIsLoadedWithinBounds(t *testing.T) {
	t.Parallel()
	good := settings{
		users: 1, stage: time.Second, target: targetSettings{url: "https://ens.example.com", tokenFile: "token", listen: "192.0.2.7:9443", rate: 1},
	}
	for name, c := range map[string]struct {
		change func(*settings)
		want   string
	}{
		"as it may be":                {func(*settings) {}, ""},
		"too many users":              {func(s *settings) { s.users = 10_001 }, "-users is 10001"},
		"nobody":                      {func(s *settings) { s.users = 0 }, "-users is 0"},
		"too long":                    {func(s *settings) { s.stage = 2 * time.Hour }, "-stage is 2h0m0s"},
		"too much":                    {func(s *settings) { s.target.rate = 2001 }, "-rate is 2001"},
		"nothing":                     {func(s *settings) { s.target.rate = 0 }, "-rate is 0"},
		"without TLS":                 {func(s *settings) { s.target.url = "http://ens.example.com" }, "-url is"},
		"without a token":             {func(s *settings) { s.target.tokenFile = "" }, "-token-file is missing"},
		"at an address of no machine": {func(s *settings) { s.target.listen = "0.0.0.0:9443" }, "-listen is"},
		"at a name":                   {func(s *settings) { s.target.listen = "load.example.com:9443" }, "-listen is"},
		"without a port":              {func(s *settings) { s.target.listen = "192.0.2.7" }, "-listen is"},
	} {
		s := good
		c.change(&s)
		switch err := s.checkTarget(); {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: the error is %v, want one about %q", name, err, c.want)
		}
	}
}

// TestATenantWithAnotherCertificateIsNotLoaded: nobody who cannot show who they are gets the token.
func TestATenantWithAnotherCertificateIsNotLoaded(t *testing.T) {
	t.Parallel()
	asked := atomic.Bool{}
	other := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Store(true) }))
	t.Cleanup(other.Close)
	folder := t.TempDir()
	token := filepath.Join(folder, "token")
	if err := os.WriteFile(token, []byte(apiToken), 0o600); err != nil {
		t.Fatal(err)
	}
	s := settings{users: 1, stage: time.Second, target: targetSettings{
		url: other.URL, tokenFile: token, listen: "127.0.0.1:0", rate: 1, wait: time.Second, poll: 100 * time.Millisecond,
		manifests: filepath.Join(folder, "target.yaml"),
	}}
	_, err := target(t.Context(), s, t.Output())
	if err == nil || !strings.Contains(err.Error(), "certificate") || asked.Load() {
		t.Errorf("the error is %v, the server was asked: %v", err, asked.Load())
	}
}
