package push

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net"
	"time"

	"k8s.io/utils/clock"
)

const (
	defaultTimeout       = 20 * time.Second
	defaultMaxConcurrent = 256
)

// Settings are what every provider is made with. Only Name is required.
type Settings struct {
	// Name is the configured name, for errors and logs.
	Name string
	// RootCAs are trusted instead of the system's if not nil.
	RootCAs *x509.CertPool
	// DialContext makes the TCP connections, nil for plain ones. It is where an address may be refused.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	// Clock dates what is signed, kept and expires; nil is the real one.
	Clock clock.PassiveClock
	// Timeout bounds a push with its retries; 0 is 20 s.
	Timeout time.Duration
	// MaxConcurrent bounds the pushes at once; others wait. 0 is 256.
	MaxConcurrent int
	// Logger is told what an administrator may want to know; nil is slog.Default(). It never gets a token or a text.
	Logger *slog.Logger
}

// Effective returns the settings with their defaults.
func (s Settings) Effective() Settings {
	if s.Clock == nil {
		s.Clock = clock.RealClock{}
	}
	if s.Timeout == 0 {
		s.Timeout = defaultTimeout
	}
	if s.MaxConcurrent == 0 {
		s.MaxConcurrent = defaultMaxConcurrent
	}
	if s.Logger == nil {
		s.Logger = slog.Default()
	}
	return s
}
