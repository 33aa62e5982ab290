// Package egress decides what an outgoing connection may reach and how the server at its other end is verified
// (architecture.md, rule 4).
//
// Addresses of Exchange servers come from tenants, so every connection is checked where it cannot be talked around: at
// the address that is really dialled, after the name was resolved. Private ranges are allowed, because Exchange usually
// stands in one.
package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"
)

const (
	// dialTimeout bounds resolving and connecting. A lost SYN is repeated after 1, 3 and 7 s; who has not answered by
	// then is down, and the caller's own retries take over.
	dialTimeout = 10 * time.Second
	// keepAlive finds dead peers on idle connections before firewalls forget the connection (often after 60 s).
	keepAlive = 30 * time.Second
)

// Guard makes outgoing connections and refuses those to places that no Exchange server or push provider stands at:
// the pod itself, link-local addresses, cloud metadata services, multicast. The zero value is the strict one.
type Guard struct {
	// AllowLoopback lets connections reach loopback and link-local addresses, for tests and the demo. Everything else
	// that is refused stays refused.
	AllowLoopback bool
}

// ErrRefused matches every RefusedError.
var ErrRefused = errors.New("connection refused by the egress guard")

// RefusedError says that a connection was not attempted because of where it would have led.
type RefusedError struct {
	// Host is the name or address that was asked for, as far as it is known.
	Host string
	// Address is the address that would have been dialled; invalid if there was none.
	Address netip.Addr
	// Place is what the address is, e.g. "a loopback address".
	Place string
	// Allowable reports whether AllowLoopback would have let the connection through.
	Allowable bool
}

// Error implements error.
func (e *RefusedError) Error() string {
	target := e.Host
	if e.Address.IsValid() && e.Address.String() != e.Host {
		target = strings.TrimSpace(fmt.Sprintf("%s (%s)", e.Host, e.Address))
	}
	remedy := "no setting allows it; correct the address or the DNS record"
	if e.Allowable {
		remedy = "only allowLoopback allows it, which is for tests and the demo; correct the address or the DNS record"
	}
	return fmt.Sprintf("%v: %s is %s: %s", ErrRefused, target, e.Place, remedy)
}

// Is makes errors.Is(err, ErrRefused) true.
func (e *RefusedError) Is(target error) bool { return target == ErrRefused }

// DialContext connects to address (host:port) over network, one of tcp, tcp4 and tcp6. A forbidden destination gives
// a *RefusedError; every address a name resolves to is checked on its own.
func (g Guard) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	switch network {
	case "tcp", "tcp4", "tcp6":
	default:
		return nil, &RefusedError{Host: address, Place: "reached over " + network + ", not TCP"}
	}
	dialer := net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive, Control: g.control}
	conn, err := dialer.DialContext(ctx, network, address)
	if refusal, ok := errors.AsType[*RefusedError](err); ok {
		if host, _, splitErr := net.SplitHostPort(address); splitErr == nil {
			refusal.Host = host
		}
		return nil, refusal
	}
	return conn, err
}

// control sees the address of every single connection attempt, just before it is made.
func (g Guard) control(_, address string, _ syscall.RawConn) error {
	target, err := netip.ParseAddrPort(address)
	if err != nil {
		return &RefusedError{Host: address, Place: "no IP address and port"}
	}
	if refusal := g.refusal(target.Addr()); refusal != nil {
		return refusal
	}
	return nil
}

// CheckURL finds out early, without resolving a name, that connections to u will be refused: its host is a forbidden
// address or a name of this machine. A nil error promises nothing, because names are only known when they are dialled.
func (g Guard) CheckURL(u *url.URL) error {
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if host == "" {
		return errors.New("the URL has no host")
	}
	if address, err := netip.ParseAddr(host); err == nil {
		if refusal := g.refusal(address); refusal != nil {
			refusal.Host = host
			return refusal
		}
		return nil
	}
	if endsInNumber(host) {
		return &RefusedError{Host: host, Place: "neither an IP address nor a host name"}
	}
	if (host == "localhost" || strings.HasSuffix(host, ".localhost")) && !g.AllowLoopback {
		return &RefusedError{Host: host, Place: "this machine itself", Allowable: true}
	}
	return nil
}

// endsInNumber finds the old spellings of IPv4 addresses (127.1, 2130706433, 0x7f.0.0.1), which some resolvers
// understand and no host name can look like (RFC 1123, section 2.1).
func endsInNumber(host string) bool {
	last := host[strings.LastIndexByte(host, '.')+1:]
	if hex, found := strings.CutPrefix(last, "0x"); found {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(last, "0123456789") == ""
}
