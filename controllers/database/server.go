package database

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ens-operator/ens-operator/runtime/secret"
	"github.com/ens-operator/ens-operator/runtime/store/databaseurl"
	"github.com/ens-operator/ens-operator/runtime/store/migrations"
)

const (
	// maxConnections is enough for all of the operator's workers, of which few wait for the database at a time.
	maxConnections = 5
	// connectTimeout is short, so that a database that is down is told of at once.
	connectTimeout = 5 * time.Second
	// lookTimeout bounds what takes milliseconds in a database that is well.
	lookTimeout = 30 * time.Second
	// provisionTimeout bounds the making and removing of a schema. Migrating a large one takes longest.
	provisionTimeout = 90 * time.Second
	// lockTimeout is how long the operator's sessions queue for a lock: whoever comes after them queues too, the runtime
	// among them.
	lockTimeout = 10 * time.Second
	// defaultSSLMode is the default of Postgres' own clients.
	defaultSSLMode = "prefer"
)

// ErrUnreachable says that the database did not answer.
var ErrUnreachable = errors.New("the database does not answer")

// Options are how to reach the database.
type Options struct {
	// URL returns the operator's own connection string. It is asked again for every connection, so that a changed
	// password is taken up.
	URL func() (secret.Value, error)
	// Authorities returns the certificate authorities, in PEM, that the server is verified against; nothing is the system's. It
	// is asked again for every connection, too. Nil if there never are any.
	Authorities func() ([]byte, error)
	// RuntimeHost and RuntimePort are where the runtimes reach the database, if not where the operator does: a pooler,
	// or another name of the server.
	RuntimeHost string
	RuntimePort uint16
	// RuntimeSSLMode is the runtimes' sslmode; empty takes the operator's.
	RuntimeSSLMode string
	// Migrations are what the schemas are brought up to; the zero value is what this program knows.
	Migrations migrations.Set
}

// Server is the database that the tenants share, or a tenant's own.
type Server struct {
	pool    *pgxpool.Pool
	runtime address
	// text is the connection string, of which the password may be another one by now.
	text secret.Value
	// authorities are as in Options.
	authorities func() ([]byte, error)
	// own is nil for the database that the tenants share.
	own        *ownLogin
	migrations migrations.Set
}

// known are the migrations that schemas are brought up to.
func (s *Server) known() migrations.Set {
	if s.migrations.Version() == 0 {
		return migrations.Known()
	}
	return s.migrations
}

// address is how the runtimes reach the database.
type address struct {
	hosts    []string
	database string
	// sslMode is empty if no mode is set; given says that it is the runtimes' own and not the operator's.
	sslMode string
	given   bool
}

// Open prepares connections to the database; it does not make one yet.
func Open(ctx context.Context, options Options) (*Server, error) {
	text, err := options.URL()
	if err != nil {
		return nil, err
	}
	config, err := pgxpool.ParseConfig(text.RevealString())
	if err != nil {
		return nil, errors.New("the operator's database URL cannot be read (the reason is left out, it may quote a password)")
	}
	config.MaxConns = maxConnections
	config.ConnConfig.ConnectTimeout = connectTimeout
	config.ConnConfig.RuntimeParams["application_name"] = "ens-operator"
	config.AfterConnect = limitLocks
	runtime, err := runtimeAddress(config.ConnConfig, options, text.RevealString())
	if err != nil {
		return nil, err
	}
	s := &Server{runtime: runtime, text: text, authorities: options.Authorities, migrations: options.Migrations}
	config.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
		return errors.Join(renewPassword(c, options.URL), s.verify(c))
	}
	if s.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, fmt.Errorf("preparing the connections to the database: %w", err)
	}
	return s, nil
}

// Close ends all connections.
func (s *Server) Close() { s.pool.Close() }

func renewPassword(c *pgx.ConnConfig, source func() (secret.Value, error)) error {
	text, err := source()
	if err != nil {
		return err
	}
	latest, err := pgx.ParseConfig(text.RevealString())
	if err != nil {
		return errors.New("the operator's database URL can no longer be read")
	}
	c.User, c.Password = latest.User, latest.Password
	return nil
}

// limitLocks sets a session's lock_timeout. It is not among the parameters of the connection's start, which poolers
// refuse. The pool gives ctx no deadline.
func limitLocks(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	_, err := conn.Exec(ctx, fmt.Sprintf("SET lock_timeout = %d", lockTimeout.Milliseconds()))
	return err
}

// sslModePattern finds the mode in both forms of connection string; the parsed configuration does not tell it.
var sslModePattern = regexp.MustCompile(`\bsslmode=([a-z-]+)`)

// sslModeIn is the mode that a connection string sets, empty if none.
func sslModeIn(text string) string {
	if match := sslModePattern.FindStringSubmatch(text); match != nil {
		return match[1]
	}
	return ""
}

// withSSLMode sets the mode in a connection string of either form.
func withSSLMode(text, mode string) string {
	setting := "sslmode=" + mode
	switch {
	case sslModeIn(text) != "":
		return sslModePattern.ReplaceAllString(text, setting)
	case !strings.HasPrefix(text, "postgres://") && !strings.HasPrefix(text, "postgresql://"):
		return text + " " + setting
	case strings.Contains(text, "?"):
		return text + "&" + setting
	default:
		return text + "?" + setting
	}
}

func runtimeAddress(config *pgx.ConnConfig, options Options, text string) (address, error) {
	result := address{database: config.Database, sslMode: options.RuntimeSSLMode, given: options.RuntimeSSLMode != ""}
	if !result.given {
		result.sslMode = sslModeIn(text)
	}
	add := func(host string, port uint16) {
		if options.RuntimePort != 0 {
			port = options.RuntimePort
		}
		hostPort := net.JoinHostPort(host, strconv.Itoa(int(port)))
		// Every host is there twice where TLS is tried first.
		if !slices.Contains(result.hosts, hostPort) {
			result.hosts = append(result.hosts, hostPort)
		}
	}
	if options.RuntimeHost != "" {
		add(options.RuntimeHost, config.Port)
		return result, nil
	}
	add(config.Host, config.Port)
	for _, fallback := range config.Fallbacks {
		add(fallback.Host, fallback.Port)
	}
	if strings.HasPrefix(config.Host, "/") || strings.HasPrefix(config.Host, "@") {
		return address{}, errors.New("the operator reaches the database over a local socket, which no pod can: say where " +
			"the runtimes reach it (--runtime-database-host)")
	}
	return result, nil
}

// RuntimeURL is the connection string of a tenant's runtime that logs in as role. It names no schema: that is the
// role's own setting. Where there are authorities, the runtime is to verify the server against them, unless it has an
// sslmode of its own.
func (s *Server) RuntimeURL(role string, password secret.Value) secret.Value {
	mode := s.runtime.sslMode
	if bundle, err := s.Authorities(); !s.runtime.given && (bundle != nil || err != nil) {
		mode = databaseurl.Verifying(mode)
	}
	query := url.Values{"sslmode": {cmp.Or(mode, defaultSSLMode)}}
	if len(s.runtime.hosts) > 1 {
		query.Set("target_session_attrs", "read-write")
	}
	location := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(role, password.RevealString()),
		Host:     strings.Join(s.runtime.hosts, ","),
		Path:     "/" + s.runtime.database,
		RawQuery: query.Encode(),
	}
	return secret.FromString(location.String())
}

// Login reads role and password out of a connection string that RuntimeURL made for one of names' login roles.
func Login(text []byte, names Names) (role string, password secret.Value, ok bool) {
	// Not url.Parse: it refuses several hosts.
	rest, found := strings.CutPrefix(string(text), "postgres://")
	if !found {
		return "", secret.Value{}, false
	}
	user, _, found := strings.Cut(rest, "@")
	if !found {
		return "", secret.Value{}, false
	}
	role, escaped, _ := strings.Cut(user, ":")
	plain, err := url.PathUnescape(escaped)
	if err != nil || plain == "" || !slices.Contains(names.Logins[:], role) {
		return "", secret.Value{}, false
	}
	return role, secret.FromString(plain), true
}

// Ports are the ports in a connection string that RuntimeURL made, each once.
func Ports(text []byte) []int32 {
	_, rest, _ := strings.Cut(string(text), "@")
	hosts, _, _ := strings.Cut(rest, "/")
	var ports []int32
	for host := range strings.SplitSeq(hosts, ",") {
		_, port, err := net.SplitHostPort(host)
		if err != nil {
			continue
		}
		if number, err := strconv.ParseUint(port, 10, 16); err == nil && !slices.Contains(ports, int32(number)) {
			ports = append(ports, int32(number))
		}
	}
	return ports
}

// classify is the error of something that was being done, as classified below. After a failover every pooled connection may
// lead to the old primary, so all are made anew.
func (s *Server) classify(doing string, err error) error {
	err = classify(doing, err)
	if errors.Is(err, ErrUnreachable) {
		s.pool.Reset()
	}
	return err
}

// classify makes ErrUnreachable of errors that say that the server was not there.
func classify(doing string, err error) error {
	if err == nil {
		return nil
	}
	if refusal, ok := errors.AsType[*pgconn.PgError](err); ok && !slices.Contains(unavailable, refusal.Code) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok || pgconn.Timeout(err) || pgconn.SafeToRetry(err) ||
		errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w: %w", doing, ErrUnreachable, err)
	}
	if _, ok := errors.AsType[*pgconn.PgError](err); ok {
		return fmt.Errorf("%s: %w: %w", doing, ErrUnreachable, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// The SQLSTATEs of a server that is starting, stopping, full or has become a standby.
var unavailable = []string{"57P01", "57P02", "57P03", "53300", "25006"}

// Reason is what the server said, without what was sent to it.
func Reason(err error) string {
	if refusal, ok := errors.AsType[*pgconn.PgError](err); ok {
		return refusal.Message + " (SQLSTATE " + refusal.Code + ")"
	}
	return "an unexpected error, which the operator's log has"
}
