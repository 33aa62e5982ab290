package controllers_test

import (
	"context"
	"crypto/x509"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers"
	"github.com/ens-operator/ens-operator/controllers/database"
	"github.com/ens-operator/ens-operator/hack/testenv"
	"github.com/ens-operator/ens-operator/runtime/secret"
	"github.com/ens-operator/ens-operator/runtime/store"
)

// certified starts a Postgres that has a certificate for a name, and returns it with a database on it.
func certified(t *testing.T, by *authority, name string) (*testenv.PostgresServer, *testenv.Database) {
	t.Helper()
	own := by.issue(t, name)
	server, err := testenv.StartPostgres(context.WithoutCancel(t.Context()), testenv.WithoutFsync(), testenv.WithTLS(own.certificate, own.key))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	made, err := server.CreateDatabase(t.Context(), "certified")
	if err != nil {
		t.Fatal(err)
	}
	return server, made
}

// verifying is a connection string to a host, with an sslmode unless that is empty.
func verifying(t *testing.T, text, host, mode string) string {
	t.Helper()
	location, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	location.Host, location.RawQuery = host+":"+location.Port(), ""
	if mode != "" {
		location.RawQuery = "sslmode=" + mode
	}
	return location.String()
}

// getsIn says why the runtime does not get into the database with what the pods see, and which mode it is told.
func (s *stage) getsIn() (mode string, err error) {
	s.t.Helper()
	loaded, err := s.load()
	if err != nil {
		return "", err
	}
	location, err := url.Parse(loaded.DatabaseURL.RevealString())
	if err != nil {
		s.t.Fatal("the URL of the pods cannot be read")
	}
	opened, err := store.Open(s.t.Context(), loaded.DatabaseURL, loaded.DatabaseCAs)
	if err != nil {
		return "", err
	}
	defer opened.Close()
	return location.Query().Get("sslmode"), opened.Check(s.t.Context(), s.names().Schema)
}

// wantIn waits until the runtime gets in with an sslmode.
func (s *stage) wantIn(when, mode string) {
	s.t.Helper()
	s.eventually("waiting for the runtime to get in "+when, func() error {
		got, err := s.getsIn()
		if err == nil && got != mode {
			err = errNotYet("with sslmode=" + got)
		}
		return err
	})
}

// tellAll puts a connection string and authorities, if there are any, into the Secret own, at once.
func (s *stage) tellAll(text, authorities string) {
	s.t.Helper()
	data := map[string][]byte{"url": []byte(text)}
	if authorities != "" {
		data["ca.crt"] = []byte(authorities)
	}
	if !s.there(&corev1.Secret{}, "own") {
		s.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "own"}, Data: data})
		return
	}
	change(s, &corev1.Secret{}, "own", func(o *corev1.Secret) { o.Data = data })
}

func TestATenantsOwnDatabaseIsVerifiedByTheAuthoritiesBesideItsURL(t *testing.T) {
	t.Parallel()
	s, _ := newTimedStage(t)
	root, rootText := newAuthority(t, "root", nil)
	next, nextText := newAuthority(t, "next", nil)
	server, own := certified(t, root, "localhost")
	s.tellAll(verifying(t, own.URL, "localhost", ""), rootText)
	tenant := s.provisioned(inOwn)
	s.wantIn("at first", "verify-full")

	for _, c := range []struct{ given, told string }{{"require", "verify-ca"}, {"verify-ca", "verify-ca"}, {"prefer", "prefer"}, {"verify-full", "verify-full"}} {
		s.tellAll(verifying(t, own.URL, "localhost", c.given), rootText)
		s.wantIn("with "+c.given, c.told)
	}
	good := s.configuration().Database.CABundle
	url := s.databaseURL()
	for what, c := range map[string]struct{ host, mode, authorities, reason, says string }{
		"another authority":                    {"localhost", "verify-full", nextText, api.ReasonUntrustedServer, "unknown authority): put the authority that issued it under ca.crt beside the connection string in Secret own"},
		"another authority, whatever the name": {"localhost", "require", nextText, api.ReasonUntrustedServer, "unknown authority"},
		"another host":                         {"127.0.0.1", "", rootText, api.ReasonUntrustedServer, "127.0.0.1"},
		"no authority":                         {"localhost", "verify-full", "", api.ReasonUntrustedServer, "unknown authority"},
		"no certificate":                       {"localhost", "verify-full", "a secret", api.ReasonInvalid, "holds no certificate in PEM"},
		"a key beside it":                      {"localhost", "verify-full", rootText + "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", api.ReasonInvalid, "something else than certificates"},
	} {
		s.tellAll(verifying(t, own.URL, c.host, c.mode), c.authorities)
		found := s.waitCondition(tenant, api.ConditionDatabaseReady, metav1.ConditionFalse, c.reason)
		if !strings.Contains(found.Message, c.says) || !strings.Contains(found.Message, "Secret own") {
			t.Errorf("%s: it says %s", what, found.Message)
		}
		if s.configuration().Database.CABundle != good || s.databaseURL() != url {
			t.Errorf("%s: it reaches the pods", what)
		}
		s.tellAll(verifying(t, own.URL, "localhost", ""), rootText)
		s.waitCondition(tenant, api.ConditionDatabaseReady, metav1.ConditionTrue, "")
	}

	// Another authority comes beside the first, then the server's certificate, then the first one goes.
	generation := fetch(s, &appsv1.Deployment{}, "acme").Generation
	s.tellAll(verifying(t, own.URL, "localhost", ""), rootText+nextText)
	s.wantCABundle(rootText + nextText)
	renewed := next.issue(t, "localhost")
	if err := server.ServeCertificate(t.Context(), renewed.certificate, renewed.key); err != nil {
		t.Fatal(err)
	}
	s.wantIn("while both authorities are there", "verify-full")
	s.wantVerifiedAnew(rootText)
	s.tellAll(verifying(t, own.URL, "localhost", ""), nextText)
	s.wantCABundle(nextText)
	s.wantIn("with the next authority alone", "verify-full")
	s.waitCondition(tenant, api.ConditionDatabaseReady, metav1.ConditionTrue, "")
	if fetch(s, &appsv1.Deployment{}, "acme").Generation != generation {
		t.Error("the pods are replaced for it")
	}
	s.tellAll(verifying(t, own.URL, "localhost", "require"), "")
	s.wantIn("with none any more", "require")
	if s.configuration().Database != nil {
		t.Error("the pods are told authorities that are not there any more")
	}
}

// wantVerifiedAnew looks whether a runtime that is told other authorities verifies against those, and these are not the
// server's.
func (s *stage) wantVerifiedAnew(others string) {
	s.t.Helper()
	loaded, err := s.load()
	if err != nil {
		s.t.Fatal(err)
	}
	opened, err := store.Open(s.t.Context(), loaded.DatabaseURL, loaded.DatabaseCAs)
	if err != nil {
		s.t.Fatal(err)
	}
	defer opened.Close()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(others))
	for _, c := range []struct {
		pool *x509.CertPool
		in   bool
	}{{loaded.DatabaseCAs, true}, {pool, false}, {nil, false}, {loaded.DatabaseCAs, true}} {
		if err := opened.UseURL(loaded.DatabaseURL, c.pool); err != nil {
			s.t.Fatal(err)
		}
		if err := opened.Check(s.t.Context(), s.names().Schema); (err == nil) != c.in {
			s.t.Errorf("with other authorities: %v, want in %t", err, c.in)
		}
	}
}

func (s *stage) wantCABundle(want string) {
	s.t.Helper()
	s.eventually("waiting for the authorities", func() error {
		if got := s.configuration().Database; got == nil || got.CABundle != want {
			return errNotYet("they are others")
		}
		return nil
	})
}

func TestTheSharedDatabaseIsVerifiedByTheAuthoritiesBesideItsURL(t *testing.T) {
	t.Parallel()
	s, _ := newTimedStage(t)
	root, rootText := newAuthority(t, "root", nil)
	next, nextText := newAuthority(t, "next", nil)
	server, shared := certified(t, root, "localhost")
	var beside atomic.Pointer[string]
	open := func(mode string) func(*controllers.Options) {
		return func(o *controllers.Options) {
			opened, err := database.Open(t.Context(), database.Options{
				URL: func() (secret.Value, error) {
					return secret.FromString(verifying(t, shared.URL, "localhost", mode)), nil
				},
				Authorities: func() ([]byte, error) {
					if text := beside.Load(); text != nil {
						return []byte(*text), nil
					}
					return nil, nil
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			o.Database = opened
		}
	}
	touch := func() {
		change(s, s.acme(), "acme", func(o *api.EnsTenant) { o.Annotations = map[string]string{"touched": time.Now().String()} })
	}

	// Without any, the system's count.
	s.restart(open("verify-full"))
	s.applySamples(nil)
	tenant := s.acme()
	found := s.waitCondition(tenant, api.ConditionDatabaseReady, metav1.ConditionFalse, api.ReasonUntrustedServer)
	if !strings.Contains(found.Message, "under ca.crt beside the operator's database URL") {
		t.Errorf("it says %s", found.Message)
	}
	// They are taken up without a restart, and so is their change.
	beside.Store(&rootText)
	touch()
	s.waitCondition(tenant, api.ConditionDatabaseReady, metav1.ConditionTrue, "")
	s.waitCondition(tenant, api.ConditionProvisioned, metav1.ConditionTrue, "")
	s.wantIn("at first", "verify-full")
	both := rootText + nextText
	beside.Store(&both)
	touch()
	s.wantCABundle(both)
	renewed := next.issue(t, "localhost")
	if err := server.ServeCertificate(t.Context(), renewed.certificate, renewed.key); err != nil {
		t.Fatal(err)
	}
	s.wantIn("with both", "verify-full")
	broken := "-----BEGIN CERTIFICATE-----"
	beside.Store(&broken)
	touch()
	found = s.waitCondition(tenant, api.ConditionDatabaseReady, metav1.ConditionFalse, api.ReasonInvalid)
	if !strings.Contains(found.Message, "Beside the operator's database URL") {
		t.Errorf("it says %s", found.Message)
	}
	if s.configuration().Database.CABundle != both {
		t.Error("it reaches the pods")
	}
	beside.Store(&nextText)
	touch()
	s.wantCABundle(nextText)
	s.wantIn("with the next alone", "verify-full")

	// Who names no mode wants to have the server verified, and the pods may have a mode of their own.
	s.restart(open(""))
	touch()
	s.waitCondition(tenant, api.ConditionDatabaseReady, metav1.ConditionTrue, "")
	s.wantIn("without a mode", "verify-full")
	beside.Store(&rootText)
	s.restart(open("require"))
	touch()
	s.waitCondition(tenant, api.ConditionDatabaseReady, metav1.ConditionFalse, api.ReasonUntrustedServer)
}
