package egress_test

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/ens-operator/ens-operator/runtime/egress"
)

// The destinations of both refusal tables: how CheckURL and DialContext see the same address.
var destinations = map[string]struct {
	host          string
	strict        string // the place in the message, empty if it is not refused
	withAllowance string
}{
	"the metadata service of most clouds":    {"169.254.169.254", "metadata service", "metadata service"},
	"the metadata service of AWS over IPv6":  {"fd00:ec2::254", "metadata service", "metadata service"},
	"the metadata service inside a mapping":  {"::ffff:169.254.169.254", "metadata service", "metadata service"},
	"the metadata service through NAT64":     {"64:ff9b::a9fe:a9fe", "metadata service", "metadata service"},
	"the host agent of Azure":                {"168.63.129.16", "metadata service", "metadata service"},
	"the loopback address":                   {"127.0.0.1", "loopback", ""},
	"another loopback address":               {"127.255.0.9", "loopback", ""},
	"the loopback address of IPv6":           {"::1", "loopback", ""},
	"an IPv4-mapped loopback address":        {"::ffff:127.0.0.1", "loopback", ""},
	"a loopback address through NAT64":       {"64:ff9b::7f00:1", "loopback", ""},
	"a loopback address through 6to4":        {"2002:7f00:1::", "loopback", ""},
	"an IPv4-compatible loopback address":    {"::127.0.0.1", "deprecated", "deprecated"},
	"a link-local address":                   {"169.254.10.10", "link-local", ""},
	"a link-local address of IPv6":           {"fe80::1", "link-local", ""},
	"a link-local address with a zone":       {"fe80::1%lo", "link-local", ""},
	"the unspecified address":                {"0.0.0.0", "unspecified", "unspecified"},
	"another address of this network":        {"0.1.2.3", "unspecified", "unspecified"},
	"the unspecified address of IPv6":        {"::", "unspecified", "unspecified"},
	"an IPv4-mapped unspecified address":     {"::ffff:0.0.0.0", "unspecified", "unspecified"},
	"a multicast address":                    {"224.0.0.251", "multicast", "multicast"},
	"a multicast address of IPv6":            {"ff02::1", "multicast", "multicast"},
	"the broadcast address":                  {"255.255.255.255", "broadcast", "broadcast"},
	"a site-local address of old":            {"fec0::1", "deprecated", "deprecated"},
	"a private address, as Exchange has one": {"10.1.2.3", "", ""},
	"a private address of another range":     {"192.168.1.1", "", ""},
	"a unique local address":                 {"fd12:3456::1", "", ""},
	"an IPv4-mapped private address":         {"::ffff:10.1.2.3", "", ""},
	"an address of carrier-grade NAT":        {"100.64.0.1", "", ""},
	"a public address":                       {"203.0.113.9", "", ""},
	"a public address of IPv6":               {"2001:db8::9", "", ""},
}

func TestCheckURLRefusesForbiddenAddresses(t *testing.T) {
	t.Parallel()
	for name, destination := range destinations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := &url.URL{Scheme: "https", Host: net.JoinHostPort(destination.host, "443")}
			expectRefusal(t, egress.Guard{}.CheckURL(u), destination.strict)
			expectRefusal(t, egress.Guard{AllowLoopback: true}.CheckURL(u), destination.withAllowance)
		})
	}
}

func TestDialContextRefusesForbiddenAddresses(t *testing.T) {
	t.Parallel()
	for name, destination := range destinations {
		if destination.strict == "" {
			continue // would be dialled for real
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := net.JoinHostPort(destination.host, "9")
			_, err := egress.Guard{}.DialContext(t.Context(), "tcp", address)
			expectRefusal(t, err, destination.strict)
			if destination.withAllowance != "" {
				_, err = egress.Guard{AllowLoopback: true}.DialContext(t.Context(), "tcp", address)
				expectRefusal(t, err, destination.withAllowance)
			}
		})
	}
}

func expectRefusal(t *testing.T, err error, place string) {
	t.Helper()
	if place == "" {
		if err != nil {
			t.Errorf("refused: %v", err)
		}
		return
	}
	refusal, ok := errors.AsType[*egress.RefusedError](err)
	if !ok || !errors.Is(err, egress.ErrRefused) {
		t.Fatalf("got %v, want a refusal", err)
	}
	if !strings.Contains(refusal.Place, place) {
		t.Errorf("refused as %q, want %q", refusal.Place, place)
	}
	if refusal.Allowable != strings.Contains(err.Error(), "allowLoopback") {
		t.Errorf("allowable is %t but the message says: %v", refusal.Allowable, err)
	}
}

func TestCheckURLLooksAtNames(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		url             string
		strict, allowed string // part of the error, empty for none
	}{
		"an ordinary host name passes":                    {"https://mail.example.com/EWS/Exchange.asmx", "", ""},
		"a name that only begins like a number passes":    {"https://127.example.com/", "", ""},
		"a name that only contains localhost passes":      {"https://localhost.example.com/", "", ""},
		"localhost is this machine":                       {"https://localhost:8443/", "this machine", ""},
		"so it is in capitals and with a final dot":       {"https://LOCALHOST./", "this machine", ""},
		"and below localhost":                             {"https://ews.localhost/", "this machine", ""},
		"a shortened address is not a host name":          {"https://127.1/", "neither", "neither"},
		"an address as one number is not a host name":     {"https://2130706433/", "neither", "neither"},
		"a hexadecimal address is not a host name":        {"https://0x7f.0x0.0x0.0x1/", "neither", "neither"},
		"a zero-padded address is not a host name":        {"https://0127.0.0.01/", "neither", "neither"},
		"an address with a final dot is still an address": {"https://127.0.0.1./", "loopback", ""},
		"a URL without a host is an error":                {"https:///EWS", "no host", "no host"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u, err := url.Parse(test.url)
			if err != nil {
				t.Fatal(err)
			}
			for guard, want := range map[egress.Guard]string{{}: test.strict, {AllowLoopback: true}: test.allowed} {
				err := guard.CheckURL(u)
				if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
					t.Errorf("%+v: got error %v, want %q", guard, err, want)
				}
			}
		})
	}
}

func TestANameIsCheckedByWhatItResolvesTo(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	address := net.JoinHostPort("localhost", port)

	_, err = egress.Guard{}.DialContext(t.Context(), "tcp", address)
	expectRefusal(t, err, "loopback")
	if refusal, _ := errors.AsType[*egress.RefusedError](err); refusal.Host != "localhost" || !refusal.Address.IsLoopback() {
		t.Errorf("the refusal names host %q and address %v", refusal.Host, refusal.Address)
	}

	conn, err := egress.Guard{AllowLoopback: true}.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatalf("with the allowance: %v", err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
}

func TestOnlyTCPIsDialled(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"udp", "unix", "ip4:icmp", ""} {
		if _, err := (egress.Guard{AllowLoopback: true}).DialContext(t.Context(), network, "203.0.113.9:53"); !errors.Is(err, egress.ErrRefused) {
			t.Errorf("%q: got %v, want a refusal", network, err)
		}
	}
}

func TestAnUnreachableServerIsNotARefusal(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = egress.Guard{AllowLoopback: true}.DialContext(t.Context(), "tcp", address)
	if _, ok := errors.AsType[*net.OpError](err); !ok || errors.Is(err, egress.ErrRefused) {
		t.Errorf("got %v, want the network's own error", err)
	}
}
