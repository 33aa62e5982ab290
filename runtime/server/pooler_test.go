package server_test

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/hack/testenv"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

// pool starts a PgBouncer in front of the tenant's database, in transaction mode, and returns the URL through it.
func pool(t *testing.T, x *runtimetest.Tenant, serverConnections int) string {
	t.Helper()
	program, err := testenv.PgBouncer(t.Context(), os.Stderr)
	if errors.Is(err, testenv.ErrNoPgBouncer) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	direct, err := url.Parse(x.Schema.URL.RevealString())
	if err != nil {
		t.Fatal(err)
	}
	reserved, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pooled := *direct
	pooled.Host = reserved.Addr().String()
	folder := t.TempDir()
	password, _ := direct.User.Password()
	ini := fmt.Sprintf(`[databases]
* = host=%s port=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = scram-sha-256
auth_file = %s/users
pool_mode = transaction
default_pool_size = %d
user = %s
`, direct.Hostname(), direct.Port(), reserved.Addr().(*net.TCPAddr).Port, folder, serverConnections, poolUser())
	for name, text := range map[string]string{"ini": ini, "users": fmt.Sprintf("%q %q\n", direct.User.Username(), password)} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// It drops its rights before it reads the users.
	for at := folder; at != os.TempDir() && len(at) > 1; at = filepath.Dir(at) {
		_ = os.Chmod(at, 0o755)
	}
	_ = reserved.Close()
	command := exec.Command(program, filepath.Join(folder, "ini"))
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	runtimetest.Eventually(t, func() string {
		conn, err := net.DialTimeout("tcp", pooled.Host, time.Second)
		if err != nil {
			return err.Error()
		}
		_ = conn.Close()
		return ""
	})
	return pooled.String()
}

// poolUser is whom PgBouncer runs as, which refuses to be root.
func poolUser() string {
	if os.Geteuid() == 0 {
		return "postgres"
	}
	return ""
}

// Two replicas have 24 connections, and Postgres sees three: no statement may count on the session of the one before.
func TestTheRuntimeWorksBehindPgBouncerInTransactionMode(t *testing.T) {
	t.Parallel()
	const phones, serverConnections = 20, 3
	x := runtimetest.New(t, runtimetest.Options{})
	x.Write(t, config.DatabaseURLFile, []byte(pool(t, x, serverConnections)))
	for range 2 {
		x.Start(t)
	}
	var coming sync.WaitGroup
	for i := range phones {
		coming.Go(func() {
			runtimetest.MustRegister(t, x.Phone(fmt.Sprintf("user%d@example.com", i), push.IOS), 7)
		})
	}
	coming.Wait()
	phone := x.Phone(alice, push.IOS)
	runtimetest.MustRegister(t, phone, 7)
	heard(t, x, "OK")
	deliver(t, x, lunch)
	if titles := shown(t, x, phone, 1); titles[0] != lunch.FromName {
		t.Errorf("shown are %q", titles)
	}
	if got := storetest.Value[int](t, x.Schema, `SELECT count(*) FROM pg_stat_activity WHERE usename = $1`, x.Schema.Role); got > serverConnections {
		t.Errorf("there are %d sessions, so what was tested was no pooler", got)
	}
	if got := storetest.Value[int](t, x.Schema, `SELECT count(*) FROM instances WHERE login = $1`, x.Schema.Role); got != 2 {
		t.Errorf("%d replicas say as which role they log in, want 2", got)
	}
}
