package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// What the set target does unless told otherwise, and at most: it is to size an installation, not to bring it down.
const (
	targetUsers, targetMostUsers = 100, 10_000
	targetStage, targetMostStage = time.Minute, time.Hour
	targetRate, targetMostRate   = 10, 2_000 // events a second
	// targetWait is how long the manifests may take to be applied and to be in effect.
	targetWait = 15 * time.Minute
	// targetPoll is seldom enough for a tenant that is not led here yet: what the first phone has is no credential there.
	targetPoll = 15 * time.Second
)

// targetSettings say which tenant the set target loads, and how.
type targetSettings struct {
	url, tokenFile, caFile string
	listen, manifests      string
	namespace, tenant      string
	rate                   float64
	// wait is how long to wait until a phone can register, and poll how often one tries.
	wait, poll time.Duration
}

func (t *targetSettings) flags(set *flag.FlagSet) {
	t.poll = targetPoll
	set.StringVar(&t.url, "url", "", "target: where phones reach the tenant, e.g. https://ens.example.com")
	set.StringVar(&t.tokenFile, "token-file", "", "target: a file with the tenant's API token")
	set.StringVar(&t.caFile, "ca", "", "target: a file with the authorities that the tenant's certificate is verified by, in PEM; the system's unless set")
	set.StringVar(&t.listen, "listen", "", "target: IP address and port under which the tenant's pods reach this machine; the next port is used, too")
	set.StringVar(&t.namespace, "namespace", "default", "target: the tenant's namespace")
	set.StringVar(&t.tenant, "tenant", "load", "target: the tenant's name")
	set.StringVar(&t.manifests, "manifests", "loadgen-target.yaml", "target: the file to write what has to be applied to")
	set.Float64Var(&t.rate, "rate", targetRate, fmt.Sprintf("target: events a second, at most %d", targetMostRate))
	set.DurationVar(&t.wait, "wait", targetWait, "target: how long to wait until the first phone can register")
}

// modest sets what is not set to what an installation bears.
func (s *settings) modest(set *flag.FlagSet) {
	given := map[string]bool{}
	set.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if !given["users"] {
		s.users = targetUsers
	}
	if !given["stage"] {
		s.stage = targetStage
	}
}

// checkTarget is an error if the settings are out of bounds or incomplete.
func (s *settings) checkTarget() error {
	t := &s.target
	var problems []error
	complain := func(wrong bool, format string, args ...any) {
		if wrong {
			problems = append(problems, fmt.Errorf(format, args...))
		}
	}
	complain(s.users < 1 || s.users > targetMostUsers, "-users is %d, want 1 to %d", s.users, targetMostUsers)
	complain(s.stage <= 0 || s.stage > targetMostStage, "-stage is %s, want at most %s", s.stage, targetMostStage)
	complain(!(t.rate > 0 && t.rate <= targetMostRate), "-rate is %v, want more than 0 and at most %d events a second", t.rate, targetMostRate)
	complain(t.tokenFile == "", "-token-file is missing")
	address, err := url.Parse(t.url)
	complain(err != nil || address.Scheme != "https" || address.Host == "", "-url is %q, want https:// and a host", t.url)
	host, port, err := net.SplitHostPort(t.listen)
	ip := net.ParseIP(host)
	complain(err != nil || ip == nil || ip.IsUnspecified(), "-listen is %q, want an IP address of this machine that the tenant's pods reach, and a port", t.listen)
	_, err = strconv.ParseUint(port, 10, 16)
	complain(err != nil, "-listen has the port %q, want a number", port)
	return errors.Join(problems...)
}

// base is the ENSLinkAddress.
func (t *targetSettings) base() string {
	base := strings.TrimSuffix(t.url, "/")
	if address, err := url.Parse(base); err == nil && address.Path == "" {
		return base + basePath
	}
	return base
}

func (t *targetSettings) token() (string, error) {
	content, err := os.ReadFile(t.tokenFile)
	if err != nil {
		return "", fmt.Errorf("reading the API token: %w", err)
	}
	token := string(bytes.TrimSpace(content))
	if token == "" {
		return "", fmt.Errorf("reading the API token: %s is empty", t.tokenFile)
	}
	return token, nil
}

// tls is how the tenant's certificate is verified: phones and Exchange do it alike.
func (t *targetSettings) tls() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.caFile == "" {
		return config, nil
	}
	content, err := os.ReadFile(t.caFile)
	if err != nil {
		return nil, fmt.Errorf("reading the authorities: %w", err)
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(content) {
		return nil, fmt.Errorf("reading the authorities: %s has no certificate in PEM", t.caFile)
	}
	return config, nil
}

// next is the address with the next port, any free one if the port is 0.
func next(listen string) string {
	host, port, _ := net.SplitHostPort(listen) // checkTarget has seen it
	number, _ := strconv.Atoi(port)
	if number != 0 {
		number++
	}
	return net.JoinHostPort(host, strconv.Itoa(number))
}
