package outbound_test

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/internal/outbound"
)

// TestAsManyConnectionsAreKeptAsArePushesAtOnce asks a server that speaks HTTP/1.1 alone, which takes a connection for each
// push that is under way. One that is made anew costs more than the push.
func TestAsManyConnectionsAreKeptAsArePushesAtOnce(t *testing.T) {
	t.Parallel()
	const atOnce, rounds = 100, 3
	var made atomic.Int64
	var together sync.WaitGroup
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		together.Done()
		together.Wait() // all of them are under way now
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			made.Add(1)
		}
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	transport := outbound.NewTransport(push.Settings{MaxConcurrent: atOnce}, &tls.Config{RootCAs: server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs})
	t.Cleanup(transport.CloseIdleConnections)
	for range rounds {
		together.Add(atOnce)
		var pushes sync.WaitGroup
		for range atOnce {
			pushes.Go(func() {
				response, err := (&http.Client{Transport: transport}).Post(server.URL, "text/plain", nil)
				if err != nil {
					t.Error(err)
					together.Done()
					return
				}
				_, _ = io.Copy(io.Discard, response.Body)
				_ = response.Body.Close()
			})
		}
		pushes.Wait()
	}
	if got := made.Load(); got != atOnce {
		t.Errorf("%d connections were made for %d rounds of %d pushes at once, want %d", got, rounds, atOnce, atOnce)
	}
}
