package server_test

import (
	"testing"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/push"
)

func TestEveryExchangeFrom2010OnTellsThePreview(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		version string
		// told is what the endpoint says of it, if anything.
		told config.ServerVersion
	}{
		"2010 SP1":                          {"Exchange2010_SP1", ""},
		"2010 SP1, as the endpoint says":    {"Exchange2010_SP1", config.Exchange2010SP1},
		"2010 SP2 and SP3":                  {"Exchange2010_SP2", ""},
		"2013":                              {"Exchange2013", ""},
		"2016 to Subscription Edition":      {"Exchange2016", ""},
		"a new one that is taken for older": {"Exchange2016", config.Exchange2010SP2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := runtimetest.New(t, runtimetest.Options{
				Exchange:  ewstest.Options{Version: test.version},
				Configure: func(c *config.Config) { c.Endpoints[0].ServerVersion = test.told },
			})
			x.Start(t)
			phone := x.Phone(alice, push.IOS)
			phone.Extra = map[string]any{"notificationPolicy": 0}
			runtimetest.MustRegister(t, phone, 7)
			heard(t, x, "OK")
			for range 2 { // the second time it is known what the server understands
				deliver(t, x, lunch)
			}
			got, err := x.APNs.Wait(runtimetest.Context(t), phone.DeviceToken, 2)
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range got[:2] {
				if alert := n.APS.Alert; alert == nil || alert.Title != lunch.FromName || alert.Subtitle != lunch.Subject || alert.Body != lunch.Preview {
					t.Errorf("the phone shows %+v", alert)
				}
			}
			refused := 0
			for _, request := range x.Exchange.Requests() {
				if request.Code == "ErrorInvalidServerVersion" {
					refused++
				}
			}
			// Two calls ask for more than the oldest version has: ResolveNames and GetItem.
			if refused > 3 || test.told != "" && refused > 0 {
				t.Errorf("%d requests asked for a version that the server does not know", refused)
			}
		})
	}
}
