// Package testenv provides the real servers that tests and the demo run against: a Postgres and a Kubernetes API
// server, each of its own, on free ports, gone without a trace when the process that started them ends, however it
// ends.
//
// In a test, one server is shared by the whole test process and every test gets a database or a namespace of its own:
//
//	func TestMain(m *testing.M) { testenv.Main(m) }
//
//	func TestStore(t *testing.T) {
//		db := testenv.Postgres(t).NewDatabase(t)
//		pool, err := pgxpool.New(t.Context(), db.URL) // as the operator: owner of the database, CREATEROLE
//		...
//	}
//
//	func TestReconcile(t *testing.T) {
//		kube := testenv.Kube(t)
//		namespace := kube.NewNamespace(t)
//		c, err := client.New(kube.Config(), client.Options{Scheme: scheme})
//		...
//	}
//
// A server starts when it is first asked for (Postgres about 1 s, the API server about 4 s), so that `go test -list`
// and fuzz workers start none. Without Main they are stopped too, a moment after the process has ended. To start the
// shared ones with options:
//
//	func TestMain(m *testing.M) {
//		testenv.Main(m, testenv.WithPostgres(testenv.WithFsync()), testenv.WithKube(testenv.WithCertManager()))
//	}
//
// Elsewhere (the demo), or for a server that no other test sees:
//
//	server, err := testenv.StartPostgres(ctx)
//	if err != nil { ... }
//	defer server.Stop()
//
// Roles belong to the Postgres server, not to a database: tests that share a server must not use the same role names.
// Whoever derives them from a cluster id can take Database.Name for it.
//
// The programs are taken from where they are, else fetched or built once into a cache folder; see Assets and
// PostgresPrograms.
package testenv
