package server_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/push"
)

// BenchmarkCallback is one post of Exchange, from the connection to the answer, with a real database behind it.
func BenchmarkCallback(b *testing.B) {
	x := runtimetest.New(b, runtimetest.Options{})
	replica := x.Start(b)
	runtimetest.MustRegister(b, x.Phone(alice, push.IOS), 7)
	s := x.Exchange.Subscriptions()[0]
	x.Exchange.EndSubscriptions(alice, "") // from here on the benchmark speaks for Exchange
	address := strings.Replace(s.URL, strings.TrimPrefix(x.Front.URL, "http://"), replica.Address, 1)
	body := post(s.ID, stillThere)
	b.ReportAllocs()
	for b.Loop() {
		response, err := http.Post(address, "text/xml; charset=utf-8", bytes.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		answer, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || !bytes.Contains(answer, []byte("OK")) {
			b.Fatalf("answered %s %q: %v", response.Status, answer, err)
		}
	}
}
