package server_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/apns/apnstest"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

func TestAReplicaReportsHowItsPushProvidersFare(t *testing.T) {
	t.Parallel()
	clock := &runtimetest.Clock{}
	x := runtimetest.New(t, runtimetest.Options{Clock: clock})
	x.Start(t)
	phone := x.Phone(alice, push.IOS)
	runtimetest.MustRegister(t, phone, 7)
	heard(t, x, "OK")
	waitFresh(t, phone)
	// reported lets minutes pass, so that the replica reports, until it tells this of Apple.
	reported := func(want string) {
		t.Helper()
		runtimetest.Eventually(t, func() string {
			const query = `SELECT coalesce((SELECT p->>'state' || ' ' || coalesce(p->>'reason', '')
FROM instances, jsonb_array_elements(push_providers) p WHERE p->>'name' = 'apple'), 'nothing')`
			got := storetest.Value[string](t, x.Schema, query)
			if got == want {
				return ""
			}
			clock.Advance(time.Minute)
			return fmt.Sprintf("of apple it says %q, want %q", got, want)
		})
	}
	reported("untried ")
	deliver(t, x, lunch)
	shown(t, x, phone, 1)
	reported("delivering ")

	x.APNs.OnRequest(func(apnstest.Request) *apnstest.Fault {
		return &apnstest.Fault{Status: http.StatusForbidden, Reason: "InvalidProviderToken"}
	})
	deliver(t, x, lunch)
	reported("refused InvalidProviderToken")
	since := func() string {
		return storetest.Value[string](t, x.Schema, `SELECT push_providers->0->>'since' FROM instances`)
	}
	began := since()

	// Another change of the configuration is not another credential.
	x.Config.Notifications.PolicyCeiling = 1
	hash := func() string { return storetest.Value[string](t, x.Schema, `SELECT config_hash FROM instances`) }
	before := hash()
	x.WriteConfig(t)
	runtimetest.Eventually(t, func() string {
		if hash() == before {
			return "the configuration has not been taken up"
		}
		return ""
	})
	reported("refused InvalidProviderToken")
	if got := since(); got != began {
		t.Errorf("it is refused since %s, and was since %s before the configuration changed", got, began)
	}
	x.Write(t, filepath.Join(config.PushFolder, "apple", config.APNsKeyFile), apnstest.NewKey().P8)
	reported("untried ")
}
