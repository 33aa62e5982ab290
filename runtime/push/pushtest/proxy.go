package pushtest

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/egress"
	"github.com/ens-operator/ens-operator/runtime/egress/proxytest"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

const proxyPassword = "of-the-proxy"

// startProxy starts a proxy, and returns how connections are made through it with a password.
func startProxy(t *testing.T, password string) (*proxytest.Proxy, egress.DialFunc) {
	t.Helper()
	proxy := proxytest.Start("ens", proxyPassword)
	t.Cleanup(proxy.Close)
	dial, err := egress.Proxy{
		URL: proxy.URL(), Username: secret.FromString("ens"), Password: secret.FromString(password),
	}.Through(new(net.Dialer).DialContext)
	if err != nil {
		t.Fatal(err)
	}
	return proxy, dial
}

func testProxy(t *testing.T, start func(*testing.T, Options) Fixture) {
	proxy, dial := startProxy(t, proxyPassword)
	// The service's address leads nowhere without the proxy.
	f := start(t, Options{DialContext: dial, Route: proxy.Route})
	f.deliver(t, Mail())
	if proxy.Passed() == 0 {
		t.Error("nothing went through the proxy")
	}
}

func testProxyPassword(t *testing.T, start func(*testing.T, Options) Fixture) {
	const wrong = "not-of-the-proxy"
	proxy, dial := startProxy(t, wrong)
	f := start(t, Options{DialContext: dial, Route: proxy.Route})
	began := time.Now()
	refusal := f.refused(t, f.NewDevice(), Mail(), push.Misconfigured)
	if text := refusal.Error(); !refusal.Lasting || !strings.Contains(text, "correct the proxy's credentials") || strings.Contains(text, wrong) {
		t.Errorf("it does not say what to do, or tells the password: %s", text)
	}
	// Nothing can come of trying again.
	checkPrompt(t, began, 0)
	if proxy.Passed() != 0 || proxy.Asked() > 2 {
		t.Errorf("the proxy was asked %d times", proxy.Asked())
	}
}

func testProxyForbids(t *testing.T, start func(*testing.T, Options) Fixture) {
	proxy, dial := startProxy(t, proxyPassword)
	f := start(t, Options{DialContext: dial})
	refusal := f.refused(t, f.NewDevice(), Mail(), push.Misconfigured)
	if !refusal.Lasting || !strings.Contains(refusal.Error(), "the proxy does not permit CONNECT to ") || proxy.Passed() != 0 {
		t.Errorf("it does not say what to do: %s", refusal.Error())
	}
}

func testProxyAway(t *testing.T, start func(*testing.T, Options) Fixture) {
	proxy, dial := startProxy(t, proxyPassword)
	f := start(t, Options{DialContext: dial, Route: proxy.Route, Timeout: short})
	proxy.Close()
	began := time.Now()
	f.refused(t, f.NewDevice(), Mail(), push.Retry)
	checkPrompt(t, began, short)
}
