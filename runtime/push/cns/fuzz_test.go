package cns_test

import (
	"errors"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/cns"
	"github.com/ens-operator/ens-operator/runtime/push/cns/cnstest"
	"github.com/ens-operator/ens-operator/runtime/push/pushtest"
)

// FuzzAnswer has the service's place answer anything.
func FuzzAnswer(f *testing.F) {
	server := cnstest.Start(cnstest.Options{Calm: true, Logf: func(string, ...any) {}})
	f.Cleanup(server.Close)
	provider, err := cns.New(cns.Options{
		Config: config.CNS{Platform: config.CNSPlatformIOS, URL: server.URL()}, Signing: file(server.Authority()),
		Settings: push.Settings{Name: "vmware", RootCAs: server.RootCAs(), Timeout: 5 * time.Second},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = provider.Close() })
	for _, body := range []string{
		"", "<html>welcome</html>", `{"status":"success","errorReason":null}`, `{"status":"failure","errorReason":"Unregistered"}`,
		`{"code":2007,"message":"Unable to verify if the signer cert as trusted."}`,
	} {
		f.Add(uint8(0), body)
		f.Add(uint8(1), body)
	}
	device := push.Device{Ref: 8, Platform: push.IOS, Token: "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"}
	// No status after which requests are repeated: the pauses would take all the time.
	statuses := []int{201, 400, 401, 404, 429}
	f.Fuzz(func(t *testing.T, status uint8, body string) {
		fault := &cnstest.Fault{Status: statuses[int(status)%len(statuses)], Body: body}
		server.OnRequest(func(cnstest.Request) *cnstest.Fault { return fault })
		err := provider.Push(t.Context(), device, pushtest.Mail())
		refusal, ok := errors.AsType[*push.Error](err)
		if !ok || refusal.Outcome < push.Retry || refusal.Outcome > push.Rejected {
			t.Fatalf("err = %v, want a refusal with an outcome", err)
		}
		pushtest.CheckDiscreet(t, err.Error(), device, pushtest.Mail())
	})
}
