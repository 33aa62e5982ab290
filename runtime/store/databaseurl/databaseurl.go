// Package databaseurl reads connection strings of Postgres by an allow-list: what a library makes of the rest could have
// this process read files, or connect elsewhere (architecture.md, Data). The operator and the runtime use it alike.
package databaseurl

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ens-operator/ens-operator/runtime/secret"
)

// allowedParameters are those that a database URL may set.
var allowedParameters = map[string]bool{
	"sslmode": true, "target_session_attrs": true, "connect_timeout": true, "application_name": true,
}

// Parse reads a connection string of the form postgres://user:password@host:port/database, in which several hosts may
// stand with commas between them. Its errors repeat nothing of it.
func Parse(text secret.Value) (*url.URL, error) {
	parsed, err := url.Parse(text.RevealString())
	if err != nil || !wellFormed(parsed) {
		return nil, errors.New("the database URL must be of the form postgres://user:password@host:port/database, " +
			"with every sign of the password escaped that has a meaning in URLs")
	}
	for name := range parsed.Query() {
		if !allowedParameters[name] { // which one is not said: behind an unescaped ? it is a part of the password
			allowed := strings.Join(slices.Sorted(maps.Keys(allowedParameters)), ", ")
			return nil, errors.New("the database URL may set no parameter but " + allowed)
		}
	}
	return parsed, nil
}

// wellFormed reports whether a database URL has the parts that it must have, and only those. A password with an
// unescaped / or # would else be taken for the database's name, which connection errors quote.
func wellFormed(u *url.URL) bool {
	return (u.Scheme == "postgres" || u.Scheme == "postgresql") && u.User.Username() != "" && u.Hostname() != "" &&
		!strings.ContainsAny(strings.TrimPrefix(u.Path, "/"), "/@") && u.Fragment == ""
}

// Trust has servers verified against authorities wherever the sslmode asks for verification; nil are the system's.
func Trust(config *pgconn.Config, authorities *x509.CertPool) {
	trust := func(settings *tls.Config) {
		if settings != nil && authorities != nil {
			settings.RootCAs = authorities
		}
	}
	trust(config.TLSConfig)
	for _, fallback := range config.Fallbacks {
		trust(fallback.TLSConfig)
	}
}

// Verifying is the sslmode in effect where a user has named the authorities: who sets no mode wants to have the server
// verified, and require is what it is with libpq then.
func Verifying(sslMode string) string {
	switch sslMode {
	case "":
		return "verify-full"
	case "require":
		return "verify-ca"
	default:
		return sslMode
	}
}
