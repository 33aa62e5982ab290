package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"sigs.k8s.io/yaml"

	"github.com/ens-operator/ens-operator/hack/loadgen/exchange"
	"github.com/ens-operator/ens-operator/hack/loadgen/quick"
	"github.com/ens-operator/ens-operator/hack/meter"
	"github.com/ens-operator/ens-operator/hack/process"
	"github.com/ens-operator/ens-operator/hack/testenv"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/push/apns/apnstest"
	"github.com/ens-operator/ens-operator/runtime/server"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

const (
	// basePath is the path of the original that everything is served under.
	basePath     = "/MailNotificationService/api/ens"
	topic        = "com.example.boxer"
	providerName = "apple"
	endpointName = "mail"
	schemaName   = "tenant"
	apiToken     = "that of the phones"
	// readyLimit bounds the start of a runtime, and stopLimit its end.
	readyLimit = time.Minute
	stopLimit  = 40 * time.Second
	readyPoll  = 2 * time.Millisecond
)

// scene is everything that runs: a real Postgres, a real runtime, and what stands for Exchange and Apple.
type scene struct {
	folder, program, profiles string

	postgres *testenv.PostgresServer
	schema   storetest.Made
	pool     *pgxpool.Pool
	database *meter.Database
	exchange *exchange.Server
	apns     *apnstest.Server
	others   *others
	stations *stations
	// layout says which way each user's mail goes, busy to whom something happens: to everybody if it is empty.
	layout layout
	busy   span
	users  *population
	ledger *ledger
	// clock is the one of everybody but the database.
	clock       quick.Clock
	arrangement arrangement

	// confined is how the runtime is held to less than the machine has, nil if it is not.
	confined *confinement

	runtime *program
	// second is another replica, nil most of the time.
	second *replica
	// address and metrics are where it serves, started is how long it took until it was ready.
	address, metrics string
	started          time.Duration
}

// setScene starts everything but the runtime. The scene is returned with an error too, to be closed.
func setScene(ctx context.Context, s settings, progress io.Writer) (*scene, error) {
	x := &scene{ledger: newLedger(s.users)}
	var err error
	if x.folder, err = os.MkdirTemp("", "ens-loadgen-"); err != nil {
		return x, err
	}
	if x.confined, err = confine(s.quota); err != nil {
		return x, err
	}
	say(progress, "Building ens-runtime")
	source := "cmd/runtime"
	if s.profiles != "" || s.arrangement.speed > 1 {
		source, x.profiles = "hack/loadgen/profiled", s.profiles
	}
	if s.profiles != "" {
		if err := os.MkdirAll(s.profiles, 0o755); err != nil {
			return x, fmt.Errorf("making the folder for profiles: %w", err)
		}
	}
	x.clock = quick.New(time.Now(), s.arrangement.speed)
	x.arrangement = s.arrangement
	if x.program, err = process.BuildFrom(ctx, x.folder, source); err != nil {
		return x, err
	}
	if err := x.startDatabase(ctx, progress); err != nil {
		return x, err
	}
	options := exchange.Options{
		Mailboxes: s.users, Delay: s.exchangeDelay, Observe: x.ledger.fetched, Unread: x.ledger.unread,
		Subscribed: s.arrangement.subscribed, Newest: s.arrangement.newest, Now: x.clock.Now,
	}
	if x.exchange, err = exchange.Start(options); err != nil {
		return x, err
	}
	x.apns = apnstest.Start(apnstest.Options{
		Calm: true, MaxDelay: s.providerDelay, Logf: func(string, ...any) {}, Observe: x.ledger.acceptedByApple, Clock: x.clock,
	})
	if x.others, err = startOthers(s, x.ledger); err != nil {
		return x, err
	}
	if x.stations, err = x.startStations(s, options); err != nil {
		return x, err
	}
	x.layout = layout{two: s.apart(), ways: s.arrangement.ways}
	if x.stations != nil {
		x.layout.each, x.layout.issue = s.users/len(x.layout.ways), x.stations.issue
	}
	ring, err := x.writeFolder()
	if err != nil {
		return x, err
	}
	say(progress, "Making %d users", s.users)
	populate := func(ctx context.Context, pool *pgxpool.Pool, ring *credential.Keyring, base string, size int) (*population, error) {
		return fill(ctx, pool, ring, base, size, x.layout)
	}
	if s.arrangement.populate != nil {
		populate = s.arrangement.populate
	}
	if x.users, err = populate(ctx, x.pool, ring, x.callbackURL(), s.users); err != nil {
		return x, err
	}
	x.addDevices(s.users)
	return x, nil
}

// databaseParameters are those of a server that is meant for this: memory for the tables that are in use, and checkpoints so
// rare that the images of whole pages do not hide what is written.
func databaseParameters(more map[string]string) map[string]string {
	parameters := meter.Parameters()
	parameters["shared_buffers"] = "1GB"
	parameters["max_wal_size"] = "8GB"
	parameters["checkpoint_timeout"] = "30min"
	maps.Copy(parameters, more)
	return parameters
}

func (x *scene) startDatabase(ctx context.Context, progress io.Writer) error {
	if _, err := testenv.PostgresPrograms(ctx, progress); err != nil {
		return err
	}
	var err error
	if x.postgres, err = testenv.StartPostgres(ctx, testenv.WithFsync(), testenv.WithParameters(databaseParameters(x.arrangement.database))); err != nil {
		return fmt.Errorf("starting Postgres: %w", err)
	}
	database, err := x.postgres.CreateDatabase(ctx, "ens")
	if err != nil {
		return err
	}
	if x.schema, err = storetest.Make(ctx, database, schemaName); err != nil {
		return err
	}
	settings, err := pgxpool.ParseConfig(database.SuperuserURL)
	if err != nil {
		return errors.New("the database's URL cannot be parsed")
	}
	settings.ConnConfig.RuntimeParams["search_path"] = pgx.Identifier{schemaName}.Sanitize() + ",public"
	if x.pool, err = pgxpool.NewWithConfig(ctx, settings); err != nil {
		return fmt.Errorf("connecting as superuser: %w", err)
	}
	x.database, err = meter.NewDatabase(ctx, x.pool)
	return err
}

// callbackURL is what Exchange would be told; the posts go to wherever the runtime serves.
func (x *scene) callbackURL() string { return "http://127.0.0.1" + basePath }

// writeFolder writes the configuration folder of a pod, and returns a keyring that seals as a runtime with it would.
func (x *scene) writeFolder() (*credential.Keyring, error) {
	key := x.apns.NewKey()
	settings := config.Config{
		Tenant: config.Tenant{ID: schemaName, Namespace: "load", Name: "acme"},
		Server: config.Server{
			Listen: "127.0.0.1:0", Metrics: "127.0.0.1:0", Admin: "127.0.0.1:0", CallbackURL: x.callbackURL(), DrainDelaySeconds: new(int32(0)),
		},
		Endpoints: []config.Endpoint{{
			Name: endpointName, URL: x.exchange.URL(), Pinning: config.Pinning{SHA256: []string{x.exchange.Fingerprint()}},
			AuthenticationMethods: []config.AuthenticationMethod{config.AuthBasic},
		}},
		PushProviders: []config.PushProvider{{Name: providerName, CABundle: true, APNs: &config.APNs{
			TeamID: key.TeamID, KeyID: key.KeyID, Topics: []string{topic}, Environment: config.PushProduction, URL: x.apns.URL(),
		}}},
		KeyPool:       config.KeyPool{Size: 1, RefillBelow: 1}, // no user is made by a registration
		AllowLoopback: true,
	}
	if x.arrangement.configure != nil {
		x.arrangement.configure(&settings)
	}
	sum := sha256.Sum256([]byte(apiToken))
	files := map[string][]byte{
		config.APITokenHashesFile: []byte(hex.EncodeToString(sum[:]) + "\n"),
		config.DatabaseURLFile:    x.schema.URL.Reveal(),
		filepath.Join(config.PushFolder, providerName, config.APNsKeyFile):  key.P8,
		filepath.Join(config.PushFolder, providerName, config.CABundleFile): x.apns.CertificatePEM(),
	}
	x.others.configure(&settings, files)
	x.stations.configure(&settings, files)
	var err error
	if files[config.FileName], err = yaml.Marshal(settings); err != nil {
		return nil, err
	}
	keyFiles := config.NewKeyFiles()
	for name, key := range keyFiles {
		files[filepath.Join(config.KeysFolder, name)] = key
	}
	for name, content := range files {
		path := filepath.Join(x.folder, "config", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, err
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return nil, err
		}
	}
	keys, err := config.ParseKeys(keyFiles)
	if err != nil {
		return nil, err
	}
	ring, err := credential.NewKeyring(schemaName, keys)
	if err != nil {
		return nil, err
	}
	return ring, ring.SealWith(config.Newest(keys.KEKs), config.Newest(keys.Webhooks))
}

// start starts the runtime and waits until it is ready.
func (x *scene) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	began := time.Now()
	arguments := []string{"--config", filepath.Join(x.folder, "config", config.FileName)}
	if x.profiles != "" {
		arguments = append(arguments, "--profiles", x.profiles)
	}
	if x.arrangement.speed > 1 {
		arguments = append(arguments, "--clock-speed", strconv.Itoa(x.arrangement.speed), "--clock-origin", strconv.FormatInt(x.clock.Origin().UnixNano(), 10))
	}
	path, arguments := x.confined.wrap(x.program, arguments)
	var err error
	if x.runtime, err = startProgram(filepath.Join(x.folder, "runtime.log"), path, arguments...); err != nil {
		return err
	}
	serving, err := x.runtime.line(ctx, server.ServingMessage)
	if err != nil {
		return err
	}
	x.address, _ = serving["address"].(string)
	x.metrics, _ = serving["metrics"].(string)
	for !ready(ctx, x.metrics) {
		select {
		case <-time.After(readyPoll):
		case <-ctx.Done():
			return fmt.Errorf("the runtime is not ready: %w\n%s", ctx.Err(), x.runtime.tail())
		}
	}
	x.started = time.Since(began)
	return nil
}

func ready(ctx context.Context, metrics string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+metrics+"/readyz", nil)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// close takes everything down, in the opposite order.
func (x *scene) close() {
	ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
	defer cancel()
	x.stopReplica(ctx)
	if x.runtime != nil {
		_ = x.runtime.stop(ctx) // killed if it does not end
	}
	x.confined.remove()
	x.others.close()
	x.stations.close()
	if x.apns != nil {
		x.apns.Close()
	}
	if x.exchange != nil {
		x.exchange.Close()
	}
	if x.pool != nil {
		x.pool.Close()
	}
	if x.postgres != nil {
		_ = x.postgres.Stop() // its janitor does it otherwise
	}
	_ = os.RemoveAll(x.folder)
}
