package server_test

import (
	"net/http"
	"slices"
	"testing"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/ews/segtest"
	"github.com/ens-operator/ens-operator/runtime/push"
)

func TestAGatewayThatIsNotReadyDelaysMail(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		status     int
		breaks     func(*runtimetest.Tenant, *segtest.Server)
		mend       func(*runtimetest.Tenant, *segtest.Server)
		nameDevice bool
	}{
		"its policies are not loaded": {
			status: http.StatusNoContent,
			breaks: func(_ *runtimetest.Tenant, seg *segtest.Server) { seg.SetPolicyLoaded(false) },
			mend:   func(_ *runtimetest.Tenant, seg *segtest.Server) { seg.SetPolicyLoaded(true) },
		},
		"it does not reach Exchange": {
			status: http.StatusServiceUnavailable,
			breaks: func(x *runtimetest.Tenant, _ *segtest.Server) {
				x.Exchange.OnRequest(func(string, string) ewstest.Fault { return ewstest.Fault{Status: http.StatusServiceUnavailable} })
			},
			mend:       func(x *runtimetest.Tenant, _ *segtest.Server) { x.Exchange.OnRequest(nil) },
			nameDevice: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x, seg := behindGateway(t, runtimetest.Options{}, test.nameDevice, config.AuthBasic)
			phone := enrolled(x, seg, push.IOS, true)
			runtimetest.MustRegister(t, phone, 7)
			heard(t, x, "OK")
			settled(t, x)

			test.breaks(x, seg)
			deliver(t, x, lunch)
			refused := func(r segtest.Request) bool { return r.Status == test.status }
			if _, err := seg.WaitRequest(runtimetest.Context(t), refused); err != nil {
				t.Fatal(err)
			}
			if n := len(x.APNs.Notifications(phone.DeviceToken)); n != 0 {
				t.Errorf("the phone got %d notifications from a gateway that has permitted nothing", n)
			}
			test.mend(x, seg)
			settled(t, x)
			if got := alertsOf(x, phone); !slices.Equal(got, []string{lunch.FromName}) {
				t.Errorf("shown are %q", got)
			}
			for _, c := range x.Exchange.Callbacks() {
				if c.Reply != "OK" {
					t.Errorf("Exchange was answered %q", c.Reply)
				}
			}
		})
	}
}
