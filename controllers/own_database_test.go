package controllers_test

import (
	"bytes"
	"io"
	"net/url"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/hack/testenv"
	"github.com/ens-operator/ens-operator/runtime/store/migrations"
)

// ownDatabase is a database as somebody else makes it for a tenant, with a role that may do nothing special.
func ownDatabase(s *stage) *testenv.Database {
	s.t.Helper()
	own := testenv.Postgres(s.t).NewDatabase(s.t)
	execute(s, own.SuperuserURL, "ALTER ROLE "+own.Owner+" NOCREATEROLE")
	return own
}

// execute runs statements as whom the URL says.
func execute(s *stage, url string, statements ...string) {
	s.t.Helper()
	conn := s.connect(url)
	for _, statement := range statements {
		if _, err := conn.Exec(s.t.Context(), statement); err != nil {
			s.t.Fatalf("%s: %v", statement, err)
		}
	}
}

// count looks one number up as the superuser of a database.
func count(s *stage, database *testenv.Database, query string, args ...any) (found int) {
	s.t.Helper()
	if err := s.connect(database.SuperuserURL).QueryRow(s.t.Context(), query, args...).Scan(&found); err != nil {
		s.t.Fatal(err)
	}
	return found
}

// inOwn has the samples' tenant keep its data where the Secret own says.
func inOwn(o *unstructured.Unstructured) {
	if o.GetKind() == "EnsTenant" {
		_ = unstructured.SetNestedField(o.Object, "own", "spec", "database", "secretName")
		_ = unstructured.SetNestedField(o.Object, int64(2), "spec", "runtime", "replicas")
	}
}

// tell puts a connection string into the Secret own, as CloudNativePG does.
func (s *stage) tell(key, text string) {
	s.t.Helper()
	if !s.there(&corev1.Secret{}, "own") {
		s.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "own"}, Data: map[string][]byte{key: []byte(text), "username": []byte("app")}})
		return
	}
	change(s, &corev1.Secret{}, "own", func(o *corev1.Secret) { o.Data = map[string][]byte{key: []byte(text)} })
}

const schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = $1"

func TestATenantMayHaveADatabaseOfItsOwn(t *testing.T) {
	t.Parallel()
	s, _ := newTimedStage(t)
	own := ownDatabase(s)
	execute(s, own.URL, "CREATE TABLE public.theirs (x int)")
	s.tell("uri", own.URL)
	tenant := s.provisioned(inOwn)

	mounted := s.databaseURL()
	if err := migrations.Check(t.Context(), s.connect(mounted)); err != nil {
		t.Errorf("the runtime's database: %v", err)
	}
	if role := tenant.Status.Database.Role; role != own.Owner || roleOf(t, mounted) != own.Owner {
		t.Errorf("pods log in as %s, the status says %s", roleOf(t, mounted), role)
	}
	if count(s, own, schemas, s.names().Schema) != 1 || s.schemaExists() {
		t.Error("the schema is not in the tenant's own database, or in the shared one too")
	}
	if roles := count(s, own, "SELECT count(*) FROM pg_roles WHERE starts_with(rolname, $1)", s.names().Schema); roles != 0 {
		t.Errorf("%d roles were made", roles)
	}
	var timeout string
	if err := s.connect(mounted).QueryRow(t.Context(), "SHOW lock_timeout").Scan(&timeout); err != nil || timeout != "10s" {
		t.Errorf("a pod waits for locks for %s (%v)", timeout, err)
	}
	writes := len(s.written())
	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Annotations = map[string]string{"touched": "yes"} })
	s.quiet()
	if after := s.written(); len(after) != writes {
		t.Errorf("with nothing to do there were the writes %v", after[writes:])
	}

	// Another password is taken up by everybody.
	address, err := url.Parse(own.URL)
	if err != nil {
		t.Fatal(err)
	}
	address.User = url.UserPassword(own.Owner, "the-next-password")
	execute(s, own.SuperuserURL, "ALTER ROLE "+own.Owner+" PASSWORD 'the-next-password'")
	s.tell("url", address.String())
	s.eventually("telling the pods of the new password", func() error {
		if s.databaseURL() == mounted {
			return errNotYet("it is the one before")
		}
		return nil
	})
	if err := migrations.Check(t.Context(), s.connect(s.databaseURL())); err != nil {
		t.Errorf("after the change: %v", err)
	}
	s.waitCondition(tenant, api.ConditionDatabaseReady, metav1.ConditionTrue, "")
	change(s, tenant, "acme", func(o *api.EnsTenant) {
		o.Annotations = map[string]string{api.AnnotationRotateDatabasePassword: "monday"}
	})
	s.waitCondition(tenant, api.ConditionDatabasePasswordReplaced, metav1.ConditionFalse, api.ReasonNotOurs)

	// It goes with the tenant, and nothing else does.
	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Spec.DeletionPolicy = api.DeletionDelete })
	s.remove(&api.EnsTenant{}, "acme")
	s.gone(&api.EnsTenant{}, "acme")
	if count(s, own, schemas, s.names().Schema) != 0 {
		t.Error("the schema is still there")
	}
	if count(s, own, "SELECT count(*) FROM pg_roles WHERE rolname = $1", own.Owner) != 1 || count(s, own, "SELECT count(*) FROM public.theirs") != 0 {
		t.Error("what is not the tenant's is gone")
	}
	if left := count(s, own, "SELECT count(*) FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole WHERE r.rolname = $1", own.Owner); left != 0 {
		t.Error("settings of the role are left")
	}
}

func TestAConnectionStringThatCannotBeUsedChangesNothing(t *testing.T) {
	t.Parallel()
	s, _ := newTimedStage(t)
	own, empty := ownDatabase(s), ownDatabase(s)
	s.tell("url", own.URL)
	tenant := s.provisioned(inOwn)
	mounted := s.databaseURL()
	address, err := url.Parse(own.URL)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := address.User.Password()
	changed := func(how func(*url.URL)) string {
		other := *address
		how(&other)
		return other.String()
	}
	parameter := func(text string) string { return changed(func(u *url.URL) { u.RawQuery = text }) }
	for what, broken := range map[string]struct{ key, text, reason string }{
		"a password file":       {"url", parameter("passfile=/etc/passwd"), api.ReasonInvalid},
		"a service file":        {"url", parameter("servicefile=/etc/passwd&service=x"), api.ReasonInvalid},
		"a client key":          {"url", parameter("sslkey=/etc/passwd&sslcert=/etc/passwd"), api.ReasonInvalid},
		"a socket":              {"url", parameter("host=/var/run/postgresql"), api.ReasonInvalid},
		"a socket for a host":   {"url", strings.Replace(own.URL, address.Host, "%2Fvar%2Frun", 1), api.ReasonInvalid},
		"no URL":                {"url", "host=127.0.0.1 user=me password=" + password, api.ReasonInvalid},
		"no password":           {"url", changed(func(u *url.URL) { u.User = url.User(own.Owner) }), api.ReasonInvalid},
		"no database":           {"url", changed(func(u *url.URL) { u.Path = "" }), api.ReasonInvalid},
		"another key":           {"jdbc-uri", own.URL, api.ReasonKeyNotFound},
		"a wrong password":      {"url", changed(func(u *url.URL) { u.User = url.UserPassword(own.Owner, "wrong-password") }), api.ReasonError},
		"nobody there":          {"url", changed(func(u *url.URL) { u.Host = "127.0.0.1:9" }), api.ReasonUnreachable},
		"a database without it": {"url", empty.URL, api.ReasonSchemaGone},
	} {
		s.tell(broken.key, broken.text)
		found := s.waitCondition(tenant, api.ConditionDatabaseReady, metav1.ConditionFalse, broken.reason)
		for _, secret := range []string{password, "wrong-password"} {
			if strings.Contains(found.Message, secret) {
				t.Errorf("%s: the condition tells the password: %s", what, found.Message)
			}
		}
		if s.databaseURL() != mounted {
			t.Fatalf("%s: the pods are told another URL", what)
		}
		s.tell("url", own.URL)
		s.waitCondition(tenant, api.ConditionDatabaseReady, metav1.ConditionTrue, "")
	}
	if count(s, empty, schemas, s.names().Schema) != 0 {
		t.Error("an empty schema was made where there were no data")
	}
	s.remove(&corev1.Secret{}, "own")
	s.waitCondition(tenant, api.ConditionDatabaseReady, metav1.ConditionFalse, api.ReasonNotFound)

	err = s.clients.Update(t.Context(), func() *api.EnsTenant {
		s.get(tenant)
		tenant.Spec.Database = nil
		return tenant
	}())
	if err == nil || !strings.Contains(err.Error(), "data do not move by themselves") {
		t.Errorf("going over to the shared database: %v", err)
	}

	// Without the Secret the schema cannot be dropped; the way out is named.
	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Spec.DeletionPolicy = api.DeletionDelete })
	s.remove(&api.EnsTenant{}, "acme")
	s.eventually("telling the way out", func() error {
		found := s.waitCondition(tenant, api.ConditionStalled, metav1.ConditionTrue, api.ReasonNotFound)
		if !strings.Contains(found.Message, "Secret own does not exist: create it") || !strings.Contains(found.Message, api.AnnotationAbandonDatabase+"=true") {
			return errNotYet(found.Message)
		}
		return nil
	})
	s.tell("url", own.URL)
	s.gone(&api.EnsTenant{}, "acme")
	if count(s, own, schemas, s.names().Schema) != 0 {
		t.Error("the schema is still there")
	}
}

func TestAnOwnDatabaseIsReachedOnlyWhereTheOperatorMayGo(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	own := ownDatabase(s)
	s.tell("url", own.URL)
	s.applySamples(nil)
	s.remove(&api.EnsTenant{}, "acme")
	s.gone(&api.EnsTenant{}, "acme")
	for _, object := range samples(t) {
		inOwn(object)
		s.apply(object)
	}
	tenant := s.acme()
	for _, text := range []string{own.URL, "postgres://app:secret-password@169.254.169.254:5432/app", "postgres://app:secret-password@localhost/app"} {
		s.tell("url", text)
		found := s.waitCondition(tenant, api.ConditionDatabaseReady, metav1.ConditionFalse, api.ReasonLoopbackRefused)
		if strings.Contains(found.Message, "secret-password") || !strings.Contains(found.Message, "Secret own") {
			t.Errorf("the condition says %q", found.Message)
		}
	}
	if count(s, own, schemas, s.names().Schema) != 0 {
		t.Error("a schema was made")
	}
}

func TestTwoTenantsDoNotShareARoleOfTheirOwn(t *testing.T) {
	t.Parallel()
	s, _ := newTimedStage(t)
	own := ownDatabase(s)
	s.tell("url", own.URL)
	s.provisioned(inOwn)
	for _, object := range samples(t) {
		if object.GetKind() == "EnsTenant" {
			inOwn(object)
			object.SetName("other")
			_ = unstructured.SetNestedField(object.Object, "other."+s.hostname(), "spec", "hostname")
			s.apply(object)
		}
	}
	other := &api.EnsTenant{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "other"}}
	found := s.waitCondition(other, api.ConditionDatabaseReady, metav1.ConditionFalse, api.ReasonSharedRole)
	if !strings.Contains(found.Message, own.Owner) {
		t.Errorf("the condition says %q", found.Message)
	}
	if made := count(s, own, "SELECT count(*) FROM pg_namespace WHERE starts_with(nspname, 'ens_')"); made != 1 {
		t.Errorf("there are %d schemas, want the first tenant's", made)
	}
	if err := migrations.Check(t.Context(), s.connect(s.databaseURL())); err != nil {
		t.Errorf("the first tenant's database: %v", err)
	}
	stalled := slices.ContainsFunc(other.Status.Conditions, func(c metav1.Condition) bool { return c.Type == api.ConditionStalled })
	if !stalled {
		t.Error("it does not say that somebody has to do something")
	}
}

// The way that docs/database.md tells.
func TestDataAreMovedIntoADatabaseOfTheTenantsOwn(t *testing.T) {
	t.Parallel()
	s, _ := newTimedStage(t)
	own := ownDatabase(s)
	s.provisioned()
	keys, token := fetch(s, &corev1.Secret{}, "acme-keys"), fetch(s, &corev1.Secret{}, "acme-api-token")
	execute(s, s.postgres.SuperuserURL, "INSERT INTO "+s.names().Schema+".key_pool (key_id, public_key, private_key, created_at) VALUES ('moved', '', '', now())")
	s.remove(&api.EnsTenant{}, "acme")
	s.gone(&api.EnsTenant{}, "acme")
	s.collectGarbage()

	programs, err := testenv.PostgresPrograms(t.Context(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	dump, err := exec.CommandContext(t.Context(), filepath.Join(programs, "pg_dump"), "--no-owner", "--no-privileges", "-n", s.names().Schema, s.postgres.URL).Output()
	if err != nil {
		t.Fatalf("dumping: %v", err)
	}
	restore := exec.CommandContext(t.Context(), filepath.Join(programs, "psql"), "-q", "-v", "ON_ERROR_STOP=1", own.URL)
	restore.Stdin = bytes.NewReader(dump)
	if output, err := restore.CombinedOutput(); err != nil {
		t.Fatalf("restoring: %v\n%s", err, output)
	}
	s.tell("url", own.URL)
	s.provisioned(inOwn)
	if count(s, own, "SELECT count(*) FROM "+s.names().Schema+".key_pool WHERE key_id = 'moved'") != 1 {
		t.Error("the data did not come along")
	}
	if err := migrations.Check(t.Context(), s.connect(s.databaseURL())); err != nil {
		t.Errorf("the runtime's database: %v", err)
	}
	for _, kept := range []*corev1.Secret{keys, token} {
		if now := fetch(s, &corev1.Secret{}, kept.Name); now.UID != kept.UID {
			t.Errorf("Secret %s is another one", kept.Name)
		}
	}
}
