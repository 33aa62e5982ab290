package server_test

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"testing"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/push"
)

const handler = "MailNotificationService.ProviderImpl."

// failure is something that goes wrong, and the lines that the original logs of it, as patterns.
type failure struct {
	name string
	// arrange sets a tenant up in which it goes wrong, and does what makes it.
	arrange func(t *testing.T, logs *buffer)
	want    []string
}

func failures() []failure {
	began := func(t *testing.T, logs *buffer) *runtimetest.Tenant {
		x := runtimetest.New(t, runtimetest.Options{LogTo: logs, Configure: ens2})
		x.Start(t)
		return x
	}
	return []failure{
		{"the database fails a request for a key", func(t *testing.T, logs *buffer) {
			x := began(t, logs)
			defer unreadable("users").start(t, x)()
			if answer, err := x.Phone(alice, push.IOS).PublicKey(t.Context()); err != nil || answer.Code != 4 {
				t.Fatalf("answered %d: %v", answer.Code, err)
			}
		}, []string{
			`^Debug ` + regexp.QuoteMeta(business) + `GetPublicKeyBusiness\.ProcessGetPublicKeyRequestAsync User Id:\[[0-9a-f]{64}\]  Error: Message: ".*permission denied for table users.*"$`,
			`^Debug ` + regexp.QuoteMeta(controller) + `GetPublicKey User Id:\[[0-9a-f]{64}\]  Get Public Key request processed\. HttpStatusCode:\[InternalServerError\] ResponseCode:\[UpdateFail\]$`,
		}},
		{"Exchange makes no subscription", func(t *testing.T, logs *buffer) {
			x := began(t, logs)
			x.Exchange.OnRequest(func(operation, _ string) ewstest.Fault {
				if operation == "Subscribe" {
					return ewstest.Fault{Status: http.StatusServiceUnavailable}
				}
				return ewstest.Fault{}
			})
			phone := x.Phone(alice, push.IOS)
			if _, err := phone.PublicKey(t.Context()); err != nil {
				t.Fatal(err)
			}
			if answer, err := phone.Register(t.Context()); err != nil || answer.Code != 14 {
				t.Fatalf("answered %d: %v", answer.Code, err)
			}
		}, []string{
			`^Warn ` + regexp.QuoteMeta(business) + `ExchangeRetriesHandler\.SubscribeForNotifications User Id:\[[0-9a-f]{64}\]  Service request exception occured  for userId \[[0-9a-f]{64}\], Inner exception message \[.*503.*\] Going for a retry,$`,
			`^Warn ` + regexp.QuoteMeta(business) + `SubscriptionBusiness\.SubscribeV2Async User Id:\[[0-9a-f]{64}\]  Service request exception occured  for userId \[[0-9a-f]{64}\], Inner exception message \[.*503.*\]$`,
			`^Debug ` + regexp.QuoteMeta(controller) + `RegisterDeviceV2 User Id:\[[0-9a-f]{64}\]  Register device request processed\. HttpStatusCode:\[Conflict\] ResponseCode:\[SubscribeAgain\]$`,
		}},
		{"Autodiscover leads nowhere", func(t *testing.T, logs *buffer) {
			d := newDiscovering(t, func(o *runtimetest.Options) {
				o.LogTo = logs
				configure := o.Configure
				o.Configure = func(c *config.Config) {
					configure(c)
					ens2(c)
				}
			})
			phone := d.phone()
			if _, err := phone.PublicKey(t.Context()); err != nil {
				t.Fatal(err)
			}
			if answer, err := phone.Register(t.Context()); err != nil || answer.Status != http.StatusConflict {
				t.Fatalf("answered %d/%d: %v", answer.Status, answer.Code, err)
			}
		}, []string{
			`^Warn ` + regexp.QuoteMeta(business) + `SubscriptionBusiness\.SubscribeV2Async User Id:\[[0-9a-f]{64}\]  Exception while auto discovery occured for userId \[[0-9a-f]{64}\], Exception Message \[.*\] , Exception \[\], Inner Exception \[\], Autodiscover url used \[\]$`,
		}},
		{"the tokens cannot be loaded", func(t *testing.T, logs *buffer) {
			began(t, logs).Write(t, config.APITokenHashesFile, []byte("not a hash\n"))
		}, []string{
			`^Error ` + regexp.QuoteMeta(handler) + `ApiTokensDataHandler\.ApiTokensAsync User Id:\[ \] Error While loading the api tokens Exception \[.*\] StackTrace\[\]$`,
		}},
	}
}

func TestFailuresAreLoggedAsTheOriginalLoggedThem(t *testing.T) {
	t.Parallel()
	for _, f := range failures() {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			logs := &buffer{}
			f.arrange(t, logs)
			for _, want := range f.want {
				pattern := regexp.MustCompile(want)
				runtimetest.Eventually(t, func() string {
					lines := parseENS2(t, logs.String())
					if !slices.ContainsFunc(lines, func(l logLine) bool { return pattern.MatchString(l.String()) }) {
						return fmt.Sprintf("the log has no line like\n%s\nin\n%s", want, join(lines))
					}
					return ""
				})
			}
		})
	}
}
