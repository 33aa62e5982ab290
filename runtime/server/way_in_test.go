package server_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/ews/autodiscover/autodiscovertest"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/protocol/boxertest"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/requestid"
)

// roundTripper is a function that sends requests.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestOneIDLeadsFromThePhoneToExchangeAndTheLog(t *testing.T) {
	t.Parallel()
	logs, handler := logged()
	x := runtimetest.New(t, runtimetest.Options{Log: handler})
	x.Start(t)
	phone := x.Phone(alice, push.IOS)
	ids := map[string]string{} // of the answers, by call
	phone.Client = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		response, err := http.DefaultTransport.RoundTrip(r)
		if err == nil {
			ids[r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]] = response.Header.Get(requestid.Header)
		}
		return response, err
	})}
	runtimetest.MustRegister(t, phone, 7)
	heard(t, x, "OK")
	settled(t, x)
	id := ids["registerdevicev2"]
	if id == "" || id == ids["getpublickey"] {
		t.Fatalf("the answers' ids are %v", ids)
	}
	askedWith(t, x, 0, id)
	for call, id := range ids {
		if got := idsOf(t, logs, "Request processed", call); got != id {
			t.Errorf("%s is logged under %q, and answered %q", call, got, id)
		}
	}

	// The same for a post: the test speaks for Exchange, to see the answer.
	s := x.Exchange.Subscriptions()[0]
	x.Exchange.EndSubscriptions(alice, "")
	body := post(s.ID, strings.Replace(mailThatIsGone, "AAMkGone=", deliver(t, x, lunch), 1))
	before := len(x.Exchange.Requests())
	response, err := http.Post(s.URL, "text/xml; charset=utf-8", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	settled(t, x)
	id = response.Header.Get(requestid.Header)
	askedWith(t, x, before, id)
	if got := idsOf(t, logs, "Notification accepted by the push provider", nil); got != id || id == "" {
		t.Errorf("the push is logged under %q, and the post answered %q", got, id)
	}
}

// askedWith wants Exchange to have been asked since a request, and under one id.
func askedWith(t *testing.T, x *runtimetest.Tenant, since int, id string) {
	t.Helper()
	requests := x.Exchange.Requests()[since:]
	if len(requests) == 0 {
		t.Error("Exchange was not asked")
	}
	for _, request := range requests {
		if request.ClientRequestID != id {
			t.Errorf("Exchange was asked %s under %q, and the answer is %q", request.Operation, request.ClientRequestID, id)
		}
	}
}

// idsOf is the id of the only line with this message and call.
func idsOf(t *testing.T, logs *buffer, message string, call any) (id string) {
	t.Helper()
	found := 0
	for _, line := range lines(t, logs, message) {
		if line["call"] == call {
			id, _ = line["activityId"].(string)
			found++
		}
	}
	if found != 1 {
		t.Errorf("%d lines %q have been logged of %v", found, message, call)
	}
	return id
}

func TestTheWebhookURLIsTheConfiguredOneWhateverThePhoneCalls(t *testing.T) {
	t.Parallel()
	for name, forge := range map[string]func(*http.Request){
		"Host":             func(r *http.Request) { r.Host = "evil.example.net" },
		"X-Forwarded-Host": func(r *http.Request) { r.Header.Set("X-Forwarded-Host", "evil.example.net") },
		"X-Original-Host":  func(r *http.Request) { r.Header.Set("X-Original-Host", "evil.example.net") },
		"Forwarded":        func(r *http.Request) { r.Header.Set("Forwarded", "host=evil.example.net;proto=http") },
		"the path":         func(r *http.Request) { r.URL.Path = strings.ToUpper(r.URL.Path) + "/" },
		"the other base path": func(r *http.Request) {
			r.URL.Path = strings.Replace(r.URL.Path, runtimetest.BasePath, "/api/ens", 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := runtimetest.New(t, runtimetest.Options{})
			replica := x.Start(t)
			phone := x.Phone(alice, push.IOS)
			phone.BaseURL = "http://" + replica.Address + runtimetest.BasePath // a proxy would set the Host anew
			phone.Client = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				r = r.Clone(r.Context())
				forge(r)
				return http.DefaultTransport.RoundTrip(r)
			})}
			runtimetest.MustRegister(t, phone, 7)
			heard(t, x, "OK")
			for _, s := range x.Exchange.Subscriptions() {
				if !strings.HasPrefix(s.URL, x.Config.Server.CallbackURL+"/pushnotificationlistener?") {
					t.Error("the webhook's address is not the configured one")
				}
			}
		})
	}
}

func TestTheAPITokenComesInEitherHeader(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{})
	x.Start(t)
	for name, test := range map[string]struct {
		header http.Header
		taken  bool
	}{
		"ApiToken":                     {http.Header{"Apitoken": {x.APIToken}}, true},
		"ApiKey":                       {http.Header{"Apikey": {x.APIToken}}, true},
		"the right one in both":        {http.Header{"Apitoken": {x.APIToken}, "Apikey": {x.APIToken}}, true},
		"a wrong one in ApiKey":        {http.Header{"Apikey": {x.APIToken + "x"}}, false},
		"a wrong one before the right": {http.Header{"Apitoken": {"wrong"}, "Apikey": {x.APIToken}}, false},
		"in another header":            {http.Header{"Authorization": {"Bearer " + x.APIToken}}, false},
		"none":                         {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := `{"userId":"` + (&boxertest.Phone{Address: alice}).UserID() + `"}`
			got := call(t, x, http.MethodPost, runtimetest.BasePath+"/getpublickey", test.header, body)
			if taken := got.status == http.StatusOK; taken != test.taken || !taken && got.status != http.StatusUnauthorized {
				t.Errorf("answered %d %s", got.status, got.body)
			}
		})
	}
}

func TestADeviceThatNamesItsServerIsNotAskedAbout(t *testing.T) {
	t.Parallel()
	d := newDiscovering(t)
	phone := d.phone()
	phone.EWSURL = d.other.URL()
	d.other.AddMailbox(ewstest.Mailbox{Address: alice, Password: runtimetest.Password})
	d.serve("autodiscover.example.com", autodiscovertest.JSON, d.Exchange.URL()) // which would lead elsewhere
	runtimetest.MustRegister(t, phone, 7)
	if n := len(d.service.Requests()); n != 0 {
		t.Errorf("Autodiscover was asked %d times", n)
	}
	if n, m := len(d.other.Subscriptions()), len(d.Exchange.Requests()); n != 1 || m != 0 {
		t.Errorf("%d subscriptions were made at the server that was named, and the other was asked %d times", n, m)
	}
}
