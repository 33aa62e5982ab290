package controllers_test

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clocktesting "k8s.io/utils/clock/testing"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/runtime/secret"
	"github.com/ens-operator/ens-operator/runtime/store"
)

// changing is a tenant whose database password is changed.
type changing struct {
	*stage
	clock  *clocktesting.FakePassiveClock
	tenant *api.EnsTenant
}

// ask asks for a new password.
func (c *changing) ask(request string) {
	c.t.Helper()
	change(c.stage, c.tenant, "acme", func(o *api.EnsTenant) {
		o.Annotations = map[string]string{api.AnnotationRotateDatabasePassword: request}
	})
}

// databaseURL is what the pods are given.
func (s *stage) databaseURL() string {
	s.t.Helper()
	return string(fetch(s, &corev1.Secret{}, "acme-runtime").Data["database-url"])
}

// changed waits until the pods are given another login than before, and returns it.
func (c *changing) changed(before string) string {
	c.t.Helper()
	c.eventually("waiting for another login", func() error {
		if c.databaseURL() == before {
			return errNotYet("the login is the one before")
		}
		return nil
	})
	return c.databaseURL()
}

// letsIn fails the test if a login does not work as wanted.
func (c *changing) letsIn(when, login string, want bool) {
	c.t.Helper()
	conn, err := pgx.Connect(c.t.Context(), login)
	if err == nil {
		_ = conn.Close(c.t.Context())
	}
	if (err == nil) != want {
		c.t.Errorf("%s: the login as %s works: %t, want %t", when, roleOf(c.t, login), err == nil, want)
	}
}

func roleOf(t *testing.T, login string) string {
	t.Helper()
	address, err := url.Parse(login)
	if err != nil {
		t.Fatal("a login cannot be read")
	}
	return address.User.Username()
}

// waits has the operator look until it says that the password before is in use because of that.
func (c *changing) waits(because string) {
	c.t.Helper()
	c.eventually("waiting for the condition to say "+because, func() error {
		c.look(c.tenant)
		found := c.waitCondition(c.tenant, api.ConditionDatabasePasswordReplaced, metav1.ConditionUnknown, api.ReasonPreviousPasswordInUse)
		if !strings.Contains(found.Message, because) {
			return errNotYet(found.Message)
		}
		return nil
	})
}

// closed has the operator look until it says that only the new password is valid.
func (c *changing) closed() {
	c.t.Helper()
	c.eventually("waiting for the end of the password before", func() error {
		c.look(c.tenant)
		for _, found := range c.tenant.Status.Conditions {
			if found.Type == api.ConditionDatabasePasswordReplaced && found.Reason == api.ReasonReplaced {
				return nil
			}
		}
		return errNotYet(fmt.Sprint(c.tenant.Status.Conditions))
	})
}

// replica is a pod's way to the database.
func (c *changing) replica(id byte, login string) (report func(), use func(login string)) {
	c.t.Helper()
	opened, err := store.Open(c.t.Context(), secret.FromString(login), nil)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(opened.Close)
	instance := store.Instance{ID: [16]byte{id}, KEKs: []int{1}, WebhookKeys: []int{1}, StartedAt: c.clock.Now()}
	report = func() {
		c.t.Helper()
		if err := opened.Report(context.WithoutCancel(c.t.Context()), instance, c.clock.Now()); err != nil {
			c.t.Fatal(err)
		}
	}
	use = func(login string) {
		c.t.Helper()
		if err := opened.UseURL(secret.FromString(login), nil); err != nil {
			c.t.Fatal(err)
		}
	}
	report()
	return report, use
}

func (c *changing) passes(d time.Duration) { c.clock.SetTime(c.clock.Now().Add(d)) }

func newChanging(t *testing.T) *changing {
	t.Helper()
	s, clock := newTimedStage(t)
	c := &changing{s, clock, s.provisioned()}
	change(s, c.tenant, "acme", func(o *api.EnsTenant) { o.Spec.Runtime.Replicas = new(int32(1)) })
	return c
}

func TestTheDatabasePasswordIsReplacedWhileEveryPodGetsIn(t *testing.T) {
	t.Parallel()
	c := newChanging(t)
	first := c.databaseURL()
	report, use := c.replica(1, first)
	session := c.connect(first)
	c.look(c.tenant)
	for _, found := range c.tenant.Status.Conditions {
		if found.Type == api.ConditionDatabasePasswordReplaced {
			t.Errorf("before any change there is %+v", found)
		}
	}

	c.ask("monday")
	second := c.changed(first)
	c.letsIn("as soon as the new one is told", second, true)
	c.letsIn("while pods have the one before", first, true)
	if roleOf(t, first) == roleOf(t, second) {
		t.Error("the new password is of the same role")
	}
	c.waits("time to take up")
	c.passes(4 * time.Minute)
	report()
	c.waits("use the new database password: 1.")
	c.ask("tuesday") // has to wait: there are two roles only
	c.look(c.tenant)
	c.letsIn("while a pod has not changed", first, true)
	if c.databaseURL() != second {
		t.Error("a third login was made while two are in use")
	}

	use(second)
	report()
	c.look(c.tenant)
	third := c.changed(second)
	c.letsIn("after all pods have changed", first, false)
	c.letsIn("while pods have the second", second, true)
	c.letsIn("as soon as the third is told", third, true)
	if err := session.Ping(t.Context()); err == nil {
		t.Error("a session of the first login goes on")
	}
	use(third)
	c.passes(4 * time.Minute)
	report()
	c.closed()
	c.letsIn("at the end", second, false)
	c.letsIn("at the end", third, true)

	for range 3 { // once is once
		c.look(c.tenant)
	}
	status := c.tenant.Status.Database
	if c.databaseURL() != third || status.PasswordRequest != "tuesday" || status.PasswordReplacedAt == nil || status.Role != roleOf(t, third) {
		t.Errorf("status.database is %+v", status)
	}
	for _, login := range []string{first, second, third} {
		address, err := url.Parse(login)
		if err != nil {
			t.Fatal("a login cannot be read")
		}
		if password, _ := address.User.Password(); strings.Contains(fmt.Sprint(c.tenant.Status), password) {
			t.Error("a password stands in the status")
		}
	}
}

func TestAReplicaThatCannotSayItsLoginIsWaitedForUntilItIsStartedAnew(t *testing.T) {
	t.Parallel()
	c := newChanging(t)
	first := c.databaseURL()
	report, _ := c.replica(1, first)
	older := func() { // as a runtime of before there was the column
		t.Helper()
		report()
		if _, err := c.connect(c.postgres.SuperuserURL).Exec(t.Context(), "UPDATE "+c.names().Schema+".instances SET login = NULL"); err != nil {
			t.Fatal(err)
		}
	}
	c.ask("monday")
	c.changed(first)
	c.passes(4 * time.Minute)
	older()
	c.waits("use the new database password: 1.")
	c.letsIn("while it runs", first, true)
	report, _ = c.replica(2, first) // it began after the change, with the files of then
	older()
	const one = "01000000-0000-0000-0000-000000000000"
	if _, err := c.connect(c.postgres.SuperuserURL).Exec(t.Context(), "DELETE FROM "+c.names().Schema+".instances WHERE id = $1", one); err != nil {
		t.Fatal(err)
	}
	c.closed()
	c.letsIn("after it was started anew", first, false)
}

// Whatever step of a change the operator dies after, the next one goes on from what it finds.
func TestAChangeOfPasswordsGoesOnAfterACrash(t *testing.T) {
	t.Parallel()
	c := newChanging(t)
	admin := c.connect(c.postgres.SuperuserURL)
	exec := func(sql string) {
		t.Helper()
		if _, err := admin.Exec(t.Context(), strings.ReplaceAll(sql, "$first", c.names().Logins[0])); err != nil {
			t.Fatal(err)
		}
	}
	first := c.databaseURL()

	// It set a password and did not live to tell anybody.
	exec("ALTER ROLE " + c.names().Logins[1] + " PASSWORD 'nobody knows' VALID UNTIL 'infinity'")
	c.ask("monday")
	second := c.changed(first)
	c.letsIn("the new one", second, true)

	// It told of it, and another operator takes over.
	c.restart()
	c.waits("time to take up")
	if c.databaseURL() != second {
		t.Error("the next operator made yet another login")
	}
	c.letsIn("after the restart", second, true)
	c.letsIn("after the restart", first, true)

	// It took the password away and did not live to end the sessions.
	session := c.connect(first)
	exec("ALTER ROLE $first PASSWORD NULL VALID UNTIL '-infinity'")
	c.restart()
	c.closed()
	if err := session.Ping(t.Context()); err == nil {
		t.Error("a session of the first login goes on")
	}
	c.letsIn("at the end", second, true)
	if c.databaseURL() != second {
		t.Error("yet another login was made")
	}
}

// The operator of before gave no role an expiry, so what it left behind does not say which one is in use.
func TestALoginOfTheOperatorBeforeWorksUntilPodsUseTheNextOne(t *testing.T) {
	t.Parallel()
	for name, connected := range map[string]bool{"while pods are connected": true, "while no pod is connected": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newChanging(t)
			c.withoutExpiry()
			c.restart()
			first := c.databaseURL()
			report, use := func() {}, func(string) {}
			var session *pgx.Conn
			if connected {
				report, use = c.replica(1, first)
				session = c.connect(first)
			}
			c.ask("monday")
			second := c.changed(first)
			c.waits("time to take up")
			c.letsIn("as soon as the new one is told", second, true)
			c.letsIn("while pods have the one before", first, true)
			c.passes(4 * time.Minute)
			report()
			if connected {
				c.waits("use the new database password: 1.")
				c.letsIn("while a pod uses it", first, true)
				if err := session.Ping(t.Context()); err != nil {
					t.Errorf("a session of the first login was ended: %v", err)
				}
			}
			use(second)
			report()
			c.closed()
			c.letsIn("at the end", first, false)
			c.letsIn("at the end", second, true)
			if connected && session.Ping(t.Context()) == nil {
				t.Error("a session of the first login goes on")
			}
		})
	}
}

// withoutExpiry makes the login roles what the operator of before made them.
func (s *stage) withoutExpiry() {
	s.t.Helper()
	names := s.names()
	execute(s, s.postgres.SuperuserURL, fmt.Sprintf("UPDATE pg_authid SET rolvaliduntil = NULL WHERE rolname IN ('%s', '%s')", names.Logins[0], names.Logins[1]))
}

// A spec that cannot be carried out keeps the new password from the pods: that is not asked after every second, and the
// pods have their time once they are told.
func TestAPasswordThatCannotBeToldIsWaitedForPatiently(t *testing.T) {
	t.Parallel()
	o, config := withoutOperator(t)
	s := newCrashStage(t, o, config)
	m := s.begin(&fuse{})
	defer m.end()
	c := &changing{s.stage, s.clock, s.acme()}
	says := func(reason, text string) {
		t.Helper()
		c.get(c.tenant)
		found := meta.FindStatusCondition(c.tenant.Status.Conditions, api.ConditionDatabasePasswordReplaced)
		if found == nil || found.Reason != reason || !strings.Contains(found.Message, text) {
			t.Errorf("the condition says %+v, want %s: %s", found, reason, text)
		}
	}
	s.applySamples(nil)
	s.standIn()
	m.work(t, c.tenant)
	first := c.databaseURL()

	change(c.stage, c.tenant, "acme", func(o *api.EnsTenant) {
		o.Annotations = map[string]string{api.AnnotationRotateDatabasePassword: "monday"}
		o.Spec.Runtime.PodTemplate = &api.PodTemplate{Affinity: &runtime.RawExtension{Raw: []byte(`{"misspelt":{}}`)}}
	})
	m.work(t, c.tenant)
	says(api.ReasonPreviousPasswordInUse, "time to take up")
	c.passes(4 * time.Minute)
	const patient = 30 * time.Second
	if again := m.work(t, c.tenant).RequeueAfter; again < patient {
		t.Errorf("it looks again after %s, want %s at least", again, patient)
	}
	says(api.ReasonPreviousPasswordInUse, "not in the pods' Secret yet")
	if c.databaseURL() != first {
		t.Fatal("the new password was told")
	}
	c.letsIn("while nobody is told another", first, true)

	change(c.stage, c.tenant, "acme", func(o *api.EnsTenant) { o.Spec.Runtime.PodTemplate = nil })
	m.work(t, c.tenant)
	second := c.databaseURL()
	says(api.ReasonPreviousPasswordInUse, "time to take up")
	c.letsIn("as soon as the new one is told", first, true)
	c.letsIn("as soon as it is told", second, true)
	c.passes(4 * time.Minute)
	m.work(t, c.tenant)
	says(api.ReasonReplaced, "Only the password of role "+roleOf(t, second))
	c.letsIn("at the end", first, false)
	c.letsIn("at the end", second, true)
}

// A restore from a backup may bring back a password that no pod has. Trying passwords is not what a start begins with.
func TestAPasswordThatTheDatabaseRefusesIsSetAnewSoonAfterAStart(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil  string
		atOnce bool
	}{
		"another password, within two minutes": {spoil: "ALTER ROLE %s PASSWORD 'of a backup'"},
		"a role that is gone, at once":         {spoil: "DROP ROLE %s", atOnce: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, config := withoutOperator(t)
			s := newCrashStage(t, o, config)
			changing := &changing{s.stage, s.clock, s.acme()}
			s.applySamples(nil)
			s.standIn()
			before := s.begin(&fuse{})
			before.work(t, changing.tenant)
			before.end()
			login := changing.databaseURL()
			execute(s.stage, s.postgres.SuperuserURL, fmt.Sprintf(c.spoil, roleOf(t, login)))

			m := s.begin(&fuse{})
			defer m.end()
			again := m.work(t, changing.tenant).RequeueAfter
			changing.letsIn("after the first look", login, c.atOnce)
			for left := 2 * time.Minute; 0 < again && again <= left; {
				changing.passes(again)
				left -= again
				again = m.work(t, changing.tenant).RequeueAfter
			}
			changing.letsIn("after all looks of two minutes", login, true)
			if changing.databaseURL() != login {
				t.Error("the pods were given another login")
			}
		})
	}
}
