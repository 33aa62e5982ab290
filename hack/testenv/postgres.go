package testenv

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	superuser = "postgres"
	loopback  = "127.0.0.1"
	// maxConnections leaves room for many tests in parallel, each with a pool per replica it plays.
	maxConnections = 200
	// portAttempts is how often another port is tried when somebody took the free one first.
	portAttempts = 5
	// startLimit bounds one start; a loaded machine needs seconds, never a minute.
	startLimit = time.Minute
	// startPoll is how often a starting server is asked whether it is there.
	startPoll = 20 * time.Millisecond
	// stopLimit is how long an immediate shutdown may take before the server is killed.
	stopLimit = 10 * time.Second
	// againPause is the time between two tries to start a server again at its port.
	againPause = 500 * time.Millisecond
	// logTail is how much of a server's log an error about it shows, in bytes.
	logTail = 2000
)

var errPortTaken = errors.New("the port was taken by somebody else")

// PostgresServer is a running Postgres with a data folder of its own, reachable on loopback TCP, or WithHost, by password only.
// It logs no statements: they may hold passwords.
type PostgresServer struct {
	programs string
	password string
	port     int
	// peer is the other server of a pair, which connection strings name too; nil if the server is alone.
	peer     *PostgresServer
	account  account
	settings postgresSettings
	box      *sandbox
	process  *exec.Cmd
	exited   chan struct{}
	stopping sync.Once
	stopErr  error
	creating sync.Mutex
}

// PostgresOption changes how StartPostgres sets a server up.
type PostgresOption func(*postgresSettings)

type postgresSettings struct {
	fsync, commit bool
	// fenced lets nobody write.
	fenced bool
	// more are further parameters.
	more map[string]string
	// host is the address to listen on.
	host string
	// certificate and key are the server's, in PEM; empty without TLS.
	certificate, key string
}

// WithFsync makes commits durable. It is in effect for StartPostgres and not for the server shared by tests.
func WithFsync() PostgresOption { return func(s *postgresSettings) { s.fsync = true } }

// WithoutFsync makes commits fast and not durable: enough for every test that does not pull the plug of the machine.
func WithoutFsync() PostgresOption { return func(s *postgresSettings) { s.fsync = false } }

// WithCommit makes commits survive the end of the server, though not of the machine: in effect for tests that stop it.
func WithCommit() PostgresOption {
	return func(s *postgresSettings) { s.fsync, s.commit = false, true }
}

// WithParameters sets further parameters of the server (postgresql.conf), e.g. shared_preload_libraries.
func WithParameters(parameters map[string]string) PostgresOption {
	return func(s *postgresSettings) { s.more = parameters }
}

// WithHost has the server listen on another address of this machine than 127.0.0.1, and take everybody who has a password
// and reaches it: for pods.
func WithHost(address string) PostgresOption { return func(s *postgresSettings) { s.host = address } }

// StartPostgres starts a server and waits until it answers; ctx bounds the start, not the server's life. If Postgres
// is not installed it tries to install it, see PostgresPrograms. As root it runs the server as another user, because
// Postgres refuses to run as root.
func StartPostgres(ctx context.Context, options ...PostgresOption) (*PostgresServer, error) {
	ctx, cancel := context.WithTimeout(ctx, startLimit+installLimit)
	defer cancel()
	settings := postgresSettings{fsync: true, host: loopback}
	for _, option := range options {
		option(&settings)
	}
	server, err := newPostgres(ctx, settings)
	if err != nil {
		return nil, err
	}
	if err = server.initialize(ctx); err == nil {
		err = server.runAnywhere(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, server.box.close())
	}
	return server, nil
}

// newPostgres makes the sandbox of a server.
func newPostgres(ctx context.Context, settings postgresSettings) (*PostgresServer, error) {
	programs, err := PostgresPrograms(ctx, os.Stderr)
	if err != nil {
		return nil, err
	}
	account, err := serverAccount()
	if err != nil {
		return nil, err
	}
	box, err := newSandbox(account.temporary(), "postgres")
	if err != nil {
		return nil, err
	}
	return &PostgresServer{programs: programs, password: rand.Text(), account: account, settings: settings, box: box}, nil
}

// dataFolder belongs to the account the server runs as; the sandbox around it belongs to us.
func (s *PostgresServer) dataFolder() string { return s.box.path("data") }

// initialize makes the data folder.
func (s *PostgresServer) initialize(ctx context.Context) error {
	if err := s.account.own(s.box.folder, s.dataFolder()); err != nil {
		return err
	}
	passwords := filepath.Join(s.dataFolder(), "password")
	if err := s.account.write(passwords, s.password); err != nil {
		return err
	}
	// The data folder proper is one level down: initdb wants it empty.
	initdb := s.account.command(ctx, filepath.Join(s.programs, "initdb"), "--pgdata=cluster", "--username="+superuser,
		"--auth=scram-sha-256", "--pwfile="+passwords, "--encoding=UTF8", "--locale=C", "--no-sync")
	initdb.Dir = s.dataFolder()
	if output, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initializing a Postgres data folder with %s: %w\n%s", s.programs, err, output)
	}
	if err := os.Remove(passwords); err != nil {
		return fmt.Errorf("removing the password file of initdb: %w", err)
	}
	if err := s.admitOthers(); err != nil {
		return err
	}
	return s.writeCertificate()
}

// admitOthers lets in who is not on loopback, if the server listens elsewhere.
func (s *PostgresServer) admitOthers() error {
	if s.settings.host == loopback {
		return nil
	}
	rules := filepath.Join(s.dataFolder(), "cluster", "pg_hba.conf")
	if err := s.account.write(rules, "host all,replication all all scram-sha-256\n"); err != nil {
		return fmt.Errorf("letting others in: %w", err)
	}
	return nil
}

// runAnywhere starts the server on a port that is free now and waits until it answers.
func (s *PostgresServer) runAnywhere(ctx context.Context) (err error) {
	for range portAttempts {
		if s.port, err = freePort(ctx, s.settings.host); err != nil {
			return err
		}
		if err = s.run(ctx); !errors.Is(err, errPortTaken) {
			break
		}
	}
	return err
}

// run starts the server on its port and waits until it answers.
func (s *PostgresServer) run(ctx context.Context) error {
	log, err := os.Create(s.box.path("log"))
	if err != nil {
		return fmt.Errorf("making the log of Postgres: %w", err)
	}
	defer log.Close() // the server has its own handle
	// Not tied to ctx: the server outlives its start.
	s.process = s.account.command(context.WithoutCancel(ctx), filepath.Join(s.programs, "postgres"),
		"-D", filepath.Join(s.dataFolder(), "cluster"))
	for name, value := range s.settings.parameters(s.port) {
		s.process.Args = append(s.process.Args, "-c", name+"="+value)
	}
	s.process.Dir, s.process.Stdout, s.process.Stderr = s.dataFolder(), log, log
	if err := s.process.Start(); err != nil {
		return fmt.Errorf("starting Postgres: %w", err)
	}
	s.exited = make(chan struct{})
	go func() {
		_ = s.process.Wait() // its exit code after an immediate shutdown says nothing
		close(s.exited)
	}()
	if err := s.box.note("postgres", s.process.Process.Pid); err != nil {
		return errors.Join(err, s.halt())
	}
	if err := s.waitReady(ctx); err != nil {
		return errors.Join(err, s.halt())
	}
	return nil
}

func (settings postgresSettings) parameters(port int) map[string]string {
	onOff := map[bool]string{true: "on", false: "off"}
	durable := onOff[settings.fsync]
	parameters := map[string]string{
		"listen_addresses":        settings.host,
		"port":                    strconv.Itoa(port),
		"unix_socket_directories": "",
		"max_connections":         strconv.Itoa(maxConnections),
		"fsync":                   durable,
		"synchronous_commit":      onOff[settings.fsync || settings.commit],
		"full_page_writes":        durable,
		"timezone":                "UTC",
		// An error's statement would be logged with the passwords in it.
		"log_statement":                     "none",
		"log_min_error_statement":           "panic",
		"log_parameter_max_length":          "0",
		"log_parameter_max_length_on_error": "0",
	}
	if settings.certificate != "" {
		parameters["ssl"], parameters["ssl_cert_file"], parameters["ssl_key_file"] = "on", "../"+certificateFile, "../"+keyFile
	}
	if settings.fenced {
		parameters["default_transaction_read_only"] = "on"
	}
	maps.Copy(parameters, settings.more)
	return parameters
}

func (s *PostgresServer) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	tick := time.NewTicker(startPoll)
	defer tick.Stop()
	for {
		connection, err := pgx.Connect(ctx, s.ownURL())
		if err == nil {
			return connection.Close(ctx)
		}
		select {
		case <-s.exited:
			log := s.logTail()
			if bytes.Contains(log, []byte("Address already in use")) {
				return errPortTaken
			}
			return fmt.Errorf("the Postgres server ended while starting; its log ends with:\n%s", log)
		case <-ctx.Done():
			return fmt.Errorf("waiting for Postgres to answer: %w; its log ends with:\n%s", err, s.logTail())
		case <-tick.C:
		}
	}
}

func (s *PostgresServer) logTail() []byte {
	log, err := os.ReadFile(s.box.path("log"))
	if err != nil {
		return []byte(err.Error())
	}
	return log[max(0, len(log)-logTail):]
}

// URL is the connection string of the superuser, to the database postgres.
func (s *PostgresServer) URL() string { return s.urlFor(superuser, s.password, superuser) }

// Port is the TCP port on 127.0.0.1, or on what WithHost says.
func (s *PostgresServer) Port() int { return s.port }

// PID is the number of the server's main process, whose children serve the sessions.
func (s *PostgresServer) PID() int { return s.process.Process.Pid }

// Programs is the folder with pg_dump, psql and the like, of the server's own version.
func (s *PostgresServer) Programs() string { return s.programs }

func (s *PostgresServer) urlFor(user, password, database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(user, password),
		Host:     s.address(),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	if s.peer != nil {
		u.Host += "," + s.peer.address()
		u.RawQuery += "&target_session_attrs=read-write"
	}
	return u.String()
}

func (s *PostgresServer) address() string {
	return net.JoinHostPort(s.settings.host, strconv.Itoa(s.port))
}

// ownURL is the connection string of the superuser to this server, whatever pair it belongs to.
func (s *PostgresServer) ownURL() string {
	alone := PostgresServer{port: s.port, settings: postgresSettings{host: s.settings.host}}
	return alone.urlFor(superuser, s.password, superuser)
}

// Restart stops the server as pg_ctl stop -m immediate does, calls between while it is away, and starts it again at its
// port. What was committed is there again, unless commits are not durable (WithoutFsync).
func (s *PostgresServer) Restart(ctx context.Context, between func()) error {
	if err := s.halt(); err != nil {
		return err
	}
	if between != nil {
		between()
	}
	return s.runAgain(ctx)
}

// runAgain starts a server that has stopped. What it left of itself, or somebody who was given its port, may still be in
// the way for a moment.
func (s *PostgresServer) runAgain(ctx context.Context) error {
	var err error
	for range portAttempts {
		if err = s.run(ctx); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(againPause):
		}
	}
	return err
}

// Stop ends the server at once, without a checkpoint, and removes its data. It may be called more than once.
func (s *PostgresServer) Stop() error {
	s.stopping.Do(func() { s.stopErr = errors.Join(s.halt(), s.box.close()) })
	return s.stopErr
}

// kill ends the server's main process as kill -9 does. The others notice and end by themselves.
func (s *PostgresServer) kill() error {
	if err := s.process.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("killing Postgres: %w", err)
	}
	<-s.exited
	return s.box.forget("postgres")
}

// halt ends the process and waits for it.
func (s *PostgresServer) halt() error {
	// SIGQUIT is Postgres' immediate shutdown.
	if err := s.process.Process.Signal(syscall.SIGQUIT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("asking Postgres to shut down: %w", err)
	}
	select {
	case <-s.exited:
	case <-time.After(stopLimit):
		return s.kill()
	}
	return s.box.forget("postgres")
}

// freePort returns a TCP port of an address of this machine that nobody listens on now.
func freePort(ctx context.Context, host string) (int, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return 0, fmt.Errorf("looking for a free port: %w", err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}
