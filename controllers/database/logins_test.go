package database_test

import (
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/controllers/database"
	"github.com/ens-operator/ens-operator/hack/testenv"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

func TestPassword(t *testing.T) {
	t.Parallel()
	server, own := newServer(t)
	tenant := tenantOf(own, "acme")
	names, password := database.NamesFor(tenant), database.NewPassword()
	if _, err := server.Provision(t.Context(), tenant); err != nil {
		t.Fatal(err)
	}
	if !server.PasswordRefused(t.Context(), names.Logins[0], password) {
		t.Error("a role that has no password yet lets somebody in")
	}
	if err := server.SetPassword(t.Context(), names.Logins[0], password); err != nil {
		t.Fatal(err)
	}
	if server.PasswordRefused(t.Context(), names.Logins[0], password) {
		t.Error("the password that was set is refused")
	}
	if !server.PasswordRefused(t.Context(), names.Logins[0], secret.FromString("wrong")) {
		t.Error("a wrong password is accepted")
	}
	url := server.RuntimeURL(names.Logins[0], password)
	role, read, ok := database.Login(url.Reveal(), names)
	if !ok || role != names.Logins[0] || !read.Equal(password) {
		t.Errorf("role %q, password the same: %t, found: %t", role, read.Equal(password), ok)
	}
}

func TestFreeLoginIsTheOneWithoutSessions(t *testing.T) {
	t.Parallel()
	server, own := newServer(t)
	want := func(when, want string, names database.Names, first bool) {
		t.Helper()
		if got, isFirst, err := server.FreeLogin(t.Context(), names); err != nil || got != want || isFirst != first {
			t.Errorf("%s: got %s, the first %t, %v; want %s, %t", when, got, isFirst, err, want, first)
		}
	}
	unknown := database.NamesFor(tenantOf(own, "unknown"))
	want("before there are roles", unknown.Logins[0], unknown, true)
	if _, err := server.Provision(t.Context(), tenantOf(own, "unknown")); err != nil {
		t.Fatal(err)
	}
	want("before there is a password", unknown.Logins[0], unknown, true)
	withoutExpiry(t, own, unknown)
	want("when nobody knows whether there is one", unknown.Logins[0], unknown, false)
	_, names := login(t, server, tenantOf(own, "acme"))
	want("while the first has a session", names.Logins[1], names, false)
	password := database.NewPassword()
	if err := server.SetPassword(t.Context(), names.Logins[1], password); err != nil {
		t.Fatal(err)
	}
	connect(t, server.RuntimeURL(names.Logins[1], password).RevealString())
	want("while both have one", names.Logins[0], names, false)
}

// withoutExpiry makes the login roles what operators made of before there was an expiry.
func withoutExpiry(t *testing.T, own *testenv.Database, names database.Names) {
	t.Helper()
	const forget = "UPDATE pg_authid SET rolvaliduntil = NULL WHERE rolname = ANY ($1)"
	if _, err := connect(t, own.SuperuserURL).Exec(t.Context(), forget, names.Logins[:]); err != nil {
		t.Fatal(err)
	}
}

func TestALoginIsClosedOnlyIfItCannotBeInUse(t *testing.T) {
	t.Parallel()
	server, own := newServer(t)
	tenant := tenantOf(own, "acme")
	names := database.NamesFor(tenant)
	role := names.Logins[1]
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	want := func(when string, closed bool) {
		t.Helper()
		now := time.Now()
		use, err := server.LoginUse(t.Context(), names, role, now, now)
		if err != nil || use.Closed != closed {
			t.Errorf("%s: %+v (%v), want it closed: %t", when, use, err, closed)
		}
	}
	_, err := server.Provision(t.Context(), tenant)
	do(err)
	want("before it was ever used", true)
	do(server.SetPassword(t.Context(), role, database.NewPassword()))
	want("with a password", false)
	_, err = server.Provision(t.Context(), tenant)
	do(err)
	want("after another look", false)
	withoutExpiry(t, own, names)
	want("as an operator of before left it", false)
	do(server.CloseLogin(t.Context(), role))
	want("after it was closed", true)
	_, err = connect(t, own.SuperuserURL).Exec(t.Context(), "DROP ROLE "+role)
	do(err)
	want("when it is gone", true)
}
