package server_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/push"
)

func TestARegistrationThatHangsDoesNotHoldUpTheEnd(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{})
	replica := x.Start(t)
	hanging, forever := make(chan struct{}, 16), make(chan struct{})
	t.Cleanup(func() { close(forever) })
	x.Exchange.OnRequest(func(string, string) ewstest.Fault {
		hanging <- struct{}{}
		return ewstest.Fault{Wait: forever}
	})
	phone := x.Phone(alice, push.IOS)
	if _, err := phone.PublicKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	cutOff := make(chan struct{})
	go func() {
		defer close(cutOff)
		_, _ = phone.Register(t.Context()) // whatever the front makes of it
	}()
	<-hanging
	if err := replica.Stop(); err != nil {
		t.Errorf("the replica did not stop cleanly: %v", err)
	}
	<-cutOff
}

func TestAReplicaThatStopsIsNotReadyAndAnswersUntilTheDrainDelayIsOver(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{Configure: func(c *config.Config) { c.Server.DrainDelaySeconds = new(int32(2)) }})
	replica := x.Start(t)
	stopped := make(chan error, 1)
	go func() { stopped <- replica.Stop() }()
	runtimetest.Eventually(t, func() string {
		if body := get(t, "http://"+replica.Metrics+"/readyz"); !strings.Contains(body, "draining") {
			return "readiness says " + body
		}
		return ""
	})
	response, err := http.Get("http://" + replica.Address + "/api/ens/alive")
	if err != nil {
		t.Fatalf("a draining replica does not answer: %v", err)
	}
	_ = response.Body.Close()
	if !response.Close {
		t.Error("a draining replica does not ask its client to connect elsewhere")
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// What stands in front keeps connections and sends the next post on one of them at any moment; a post that meets its
// connection's end fails, since nobody may repeat it but Exchange, after half a minute.
func TestAReplicaThatStopsAnswersOnConnectionsThatWereIdle(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{Configure: func(c *config.Config) { c.Server.DrainDelaySeconds = new(int32(2)) }})
	replica := x.Start(t)
	connections := 0
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		connections++
		return new(net.Dialer).DialContext(ctx, network, address)
	}}}
	call := func() (last bool) {
		response, err := client.Get("http://" + replica.Address + "/api/ens/alive")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body) // so that the connection is idle
		_ = response.Body.Close()
		return response.Close
	}
	call()
	stopped := make(chan error, 1)
	go func() { stopped <- replica.Stop() }()
	runtimetest.Eventually(t, func() string {
		if body := get(t, "http://"+replica.Metrics+"/readyz"); !strings.Contains(body, "draining") {
			return "readiness says " + body
		}
		return ""
	})
	if !call() {
		t.Error("a draining replica does not ask its client to connect elsewhere")
	}
	if connections != 1 {
		t.Error("the replica closed an idle connection when it began to drain: a post on it would have failed")
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}
