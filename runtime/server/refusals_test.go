package server_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/protocol/boxertest"
	"github.com/ens-operator/ens-operator/runtime/push"
)

func TestMalformedCallsAreRefusedWithTheContractsCode(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{})
	x.Start(t)
	const bobsID = "5ff860bf1190596c7188ab851db691f0f3169c453936e9e1eba2f9a47f7a0018" // SHA-256 of bob@example.com

	tests := map[string]struct {
		call, body   string
		token        string
		status, code int
		message      string
	}{
		"no token":                     {call: "getpublickey", body: `{}`, token: "", status: 401, code: 23, message: "ENSAPIToken"},
		"a wrong token":                {call: "unregister", body: `{}`, token: "wrong", status: 401, code: 23, message: "ENSAPIToken"},
		"malformed JSON":               {call: "getpublickey", body: `{"userId":`, status: 400, code: 32, message: "not JSON"},
		"a wrong JSON type":            {call: "getpublickey", body: `{"userId":7}`, status: 400, code: 32, message: "userId"},
		"an empty body":                {call: "status", body: ``, status: 400, code: 32, message: "not JSON"},
		"a body that is too large":     {call: "getpublickey", body: `{"userId":"` + strings.Repeat("a", 300<<10) + `"}`, status: 413, code: 32, message: "larger"},
		"a malformed userId":           {call: "getpublickey", body: `{"userId":"bob@example.com"}`, status: 400, code: 32, message: "userId"},
		"an upper-case userId":         {call: "getpublickey", body: `{"userId":"` + strings.ToUpper(bobsID) + `"}`, status: 400, code: 32, message: "userId"},
		"status of an unknown user":    {call: "status", body: `{"userId":"` + bobsID + `","deviceId":"D"}`, status: 200, code: 28},
		"unregister of unknown user":   {call: "unregister", body: `{"userId":"` + bobsID + `","deviceId":"D"}`, status: 200, code: 28},
		"a status without a deviceId":  {call: "status", body: `{"userId":"` + bobsID + `"}`, status: 400, code: 32, message: "deviceId"},
		"a NUL in the deviceId":        {call: "status", body: `{"userId":"` + bobsID + `","deviceId":"D\u0000"}`, status: 400, code: 32, message: "deviceId"},
		"a deviceId that is too long":  {call: "status", body: `{"userId":"` + bobsID + `","deviceId":"` + strings.Repeat("D", 129) + `"}`, status: 400, code: 32, message: "deviceId"},
		"a registration without a key": {call: "registerdevicev2", body: `{"userId":"` + bobsID + `","deviceId":"D","deviceToken":"ab","platform":"iOS","credentials":"AA=="}`, status: 404, code: 9, message: "getpublickey"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			phone := x.Phone("nobody@example.com", push.IOS)
			if test.token != "" || test.code == 23 {
				phone.APIToken = test.token
			}
			answer, err := phone.Post(t.Context(), test.call, []byte(test.body))
			wantAnswer(t, answer, err, test.status, test.code, test.message)
		})
	}
}

func wantAnswer(t *testing.T, answer boxertest.Answer, err error, status, code int, message string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if answer.Status != status || answer.Code != code {
		t.Errorf("answered %d/%d %q, want %d/%d", answer.Status, answer.Code, answer.Message, status, code)
	}
	if !strings.Contains(answer.Message, message) {
		t.Errorf("the errorMessage is %q and does not mention %q", answer.Message, message)
	}
}

func TestARegistrationThatFailsChangesNothing(t *testing.T) {
	t.Parallel()
	fault := func(f ewstest.Fault) func(string) ewstest.Fault {
		return func(string) ewstest.Fault { return f }
	}
	onSubscribe := func(f ewstest.Fault) func(string) ewstest.Fault {
		return func(operation string) ewstest.Fault {
			if operation == "Subscribe" {
				return f
			}
			return ewstest.Fault{}
		}
	}
	tests := map[string]struct {
		change       func(*boxertest.Phone)
		fault        func(operation string) ewstest.Fault
		status, code int
		message      string
		// subscribes is how often Exchange is asked for a subscription.
		subscribes int
	}{
		"an unknown authType":                {change: set("authType", 9), status: 400, code: 36, message: "authType"},
		"a negative authType":                {change: set("authType", -1), status: 400, code: 36, message: "authType"},
		"an ewsUrl that is not the tenant's": {change: set("ewsUrl", "https://evil.example.net/EWS/Exchange.asmx"), status: 403, code: 35, message: "ewsUrl"},
		"a payload that is not base64":       {change: set("credentials", "!!!"), status: 400, code: 34, message: "cannot be decrypted"},
		"a payload of the wrong length":      {change: set("credentials", "AAAA"), status: 400, code: 34, message: "cannot be decrypted"},
		"a payload under another key":        {change: set("credentials", strings.Repeat("A", 342)+"=="), status: 400, code: 34, message: "cannot be decrypted"},
		"another keyId":                      {change: set("keyId", "0000000000000000"), status: 400, code: 34, message: "key"},
		"an unknown platform":                {change: set("platform", "Symbian"), status: 400, code: 32, message: "platform"},
		"an app that no provider serves":     {change: set("appId", "com.example.other"), status: 400, code: 32, message: "appId"},
		"an environment that none serves":    {change: set("pushEnvironment", "sandbox"), status: 400, code: 32, message: "pushEnvironment"},
		"a wrong password":                   {change: func(p *boxertest.Phone) { p.Password = "not-the-password-of-alice" }, status: 409, code: 14, message: "401"},
		"EWS forbidden":                      {fault: fault(ewstest.Fault{Status: 403}), status: 409, code: 14, message: "403 Forbidden"},
		"EWS unavailable":                    {fault: fault(ewstest.Fault{Status: 503}), status: 409, code: 14, message: "503"},
		"EWS unavailable when subscribing":   {fault: onSubscribe(ewstest.Fault{Status: 503}), status: 409, code: 14, message: "503", subscribes: 4},
		"EWS not found":                      {fault: fault(ewstest.Fault{Status: 404}), status: 409, code: 14, message: "404"},
		"EWS overloaded when subscribing":    {fault: onSubscribe(ewstest.Fault{Code: "ErrorServerBusy", BackOff: 60e9}), status: 409, code: 14, message: "wait", subscribes: 1},
		"EWS refuses the subscription":       {fault: onSubscribe(ewstest.Fault{Status: 403}), status: 409, code: 14, message: "403", subscribes: 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := runtimetest.New(t, runtimetest.Options{})
			x.Start(t)
			ctx := runtimetest.Context(t)
			first, second := x.Phone(alice, push.IOS), x.Phone(alice, push.IOS)
			runtimetest.MustRegister(t, first, 7)
			before, asked := snapshot(t, x), subscribes(x)

			if test.fault != nil {
				x.Exchange.OnRequest(func(operation, _ string) ewstest.Fault { return test.fault(operation) })
			}
			if _, err := second.PublicKey(ctx); err != nil {
				t.Fatal(err)
			}
			second.Extra = map[string]any{"forceSubscription": true}
			if test.change != nil {
				test.change(second)
			}
			answer, err := second.Register(ctx)
			wantAnswer(t, answer, err, test.status, test.code, test.message)
			for _, secret := range []string{alice, second.Password, second.DeviceToken} {
				if strings.Contains(answer.Message, secret) {
					t.Errorf("the errorMessage carries what it must not: %q", answer.Message)
				}
			}
			x.Exchange.OnRequest(nil)
			if n := subscribes(x) - asked; n != test.subscribes {
				t.Errorf("Exchange was asked for a subscription %d times, want %d", n, test.subscribes)
			}
			if after := snapshot(t, x); after != before {
				t.Errorf("the database changed:\nbefore %s\nafter  %s", before, after)
			}
			deliver(t, x, lunch)
			if _, err := x.APNs.Wait(ctx, first.DeviceToken, 1); err != nil {
				t.Errorf("the subscription that was there does not work any more: %v", err)
			}
			if n := len(x.APNs.Notifications(second.DeviceToken)); n != 0 {
				t.Errorf("the refused phone got %d notifications", n)
			}
		})
	}
}

// subscribes is how often Exchange was asked for a subscription.
func subscribes(x *runtimetest.Tenant) (count int) {
	for _, request := range x.Exchange.Requests() {
		if request.Operation == "Subscribe" {
			count++
		}
	}
	return count
}

// set replaces a field of the registration.
func set(field string, value any) func(*boxertest.Phone) {
	return func(p *boxertest.Phone) { p.Extra[field] = value }
}

// snapshot is what must not change: devices, and subscriptions that Exchange has said yes to.
func snapshot(t *testing.T, x *runtimetest.Tenant) string {
	t.Helper()
	var text string
	const query = `SELECT coalesce((SELECT string_agg(device_id || ' ' || token, ';' ORDER BY ref) FROM devices), '') || ' | ' ||
coalesce((SELECT string_agg(generation || ' ' || state || ' ' || subscription_id, ';' ORDER BY generation) FROM subscriptions WHERE state = 'active'), '')`
	if err := x.Schema.Looking.QueryRow(t.Context(), query).Scan(&text); err != nil {
		t.Fatal(err)
	}
	return text
}

func TestCredentialsOpenOnlyTheirOwnUser(t *testing.T) {
	t.Parallel()
	const mallory = "mallory@example.com"
	tests := map[string]func(x *runtimetest.Tenant, p *boxertest.Phone){
		"garbage credentials on a live user": func(_ *runtimetest.Tenant, p *boxertest.Phone) {
			p.Username, p.Password = "nobody", "nothing"
		},
		"another user's valid credentials": func(_ *runtimetest.Tenant, p *boxertest.Phone) {
			p.Username, p.Password = mallory, runtimetest.Password
		},
		"another user's valid credentials with the victim's address": func(_ *runtimetest.Tenant, p *boxertest.Phone) {
			p.Username, p.Password, p.WithEmail = mallory, runtimetest.Password, true
		},
		"a delegate who may open the mailbox": func(x *runtimetest.Tenant, p *boxertest.Phone) {
			x.Exchange.AddMailbox(ewstest.Mailbox{Address: alice, Password: runtimetest.Password, OpenTo: []string{mallory}})
			p.Username, p.Password, p.WithEmail = mallory, runtimetest.Password, true
		},
		"a login name that is a prefix of the victim's": func(x *runtimetest.Tenant, p *boxertest.Phone) {
			x.Exchange.AddMailbox(ewstest.Mailbox{Address: "ali@example.com", Password: runtimetest.Password, Logins: []string{`CORP\ali`}, Alias: "ali"})
			p.Username, p.Password = `CORP\ali`, runtimetest.Password
		},
	}
	for name, attack := range tests {
		for _, victim := range []string{"registered", "not registered"} {
			t.Run(name+", the victim being "+victim, func(t *testing.T) {
				t.Parallel()
				x := runtimetest.New(t, runtimetest.Options{})
				x.Start(t)
				x.Exchange.AddMailbox(ewstest.Mailbox{Address: mallory, Password: runtimetest.Password})
				own, forged := x.Phone(alice, push.IOS), x.Phone(alice, push.IOS)
				if victim == "registered" {
					runtimetest.MustRegister(t, own, 7)
				}
				attack(x, forged)
				if _, err := forged.PublicKey(t.Context()); err != nil {
					t.Fatal(err)
				}
				before := snapshot(t, x)
				answer, err := forged.Register(t.Context())
				wantAnswer(t, answer, err, http.StatusConflict, 14, "")
				if after := snapshot(t, x); after != before {
					t.Errorf("the database changed:\nbefore %s\nafter  %s", before, after)
				}
			})
		}
	}
}

func TestALoginNameThatIsNotTheAddressIsProvedByTheDirectory(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{})
	x.Start(t)
	x.Exchange.AddMailbox(ewstest.Mailbox{Address: alice, Password: runtimetest.Password, Logins: []string{`CORP\alice`}, Alias: "alice"})
	x.Exchange.AddMailbox(ewstest.Mailbox{Address: "alicia@example.com", Password: runtimetest.Password, Alias: "alicia"})
	phone := x.Phone(alice, push.IOS)
	phone.Username = `CORP\alice`
	runtimetest.MustRegister(t, phone, 7)
}

func TestGuessingAtAPayloadIsSlowedDown(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{})
	x.Start(t)
	phone := x.Phone(alice, push.IOS)
	if _, err := phone.PublicKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	phone.Extra = map[string]any{"credentials": strings.Repeat("A", 342) + "=="}
	for try := range 5 {
		if answer, err := phone.Register(t.Context()); err != nil || answer.Code != 34 {
			t.Fatalf("try %d was answered %d/%d: %v", try, answer.Status, answer.Code, err)
		}
	}
	answer, err := phone.Register(t.Context())
	wantAnswer(t, answer, err, http.StatusTooManyRequests, 32, "too many")
	if answer.RetryAfter == "" {
		t.Error("the answer has no Retry-After")
	}
}

func TestGuessingAtAPayloadManyTimesAtOnceIsSlowedDownToo(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{})
	x.Start(t)
	phone := x.Phone(alice, push.IOS)
	if _, err := phone.PublicKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	phone.Extra = map[string]any{"credentials": strings.Repeat("A", 342) + "=="}
	const calls = 40 // fewer than a user may make in a minute
	answers := make(chan boxertest.Answer, calls)
	for range calls {
		guesser := *phone
		go func() {
			answer, err := guesser.Register(t.Context())
			if err != nil {
				t.Error(err)
			}
			answers <- answer
		}()
	}
	decrypted := 0
	for range calls {
		switch answer := <-answers; {
		case answer.Code == 34:
			decrypted++
		case answer.Status != http.StatusTooManyRequests || answer.RetryAfter == "":
			t.Errorf("answered %d/%d", answer.Status, answer.Code)
		}
	}
	if decrypted > 5 {
		t.Errorf("%d payloads were tried, want 5 at most", decrypted)
	}
}

func TestAnExchangeWithAnotherCertificateGetsNoCredential(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{Configure: func(c *config.Config) {
		c.Endpoints[0].Pinning.SHA256 = []string{strings.Repeat("0", 64)}
	}})
	x.Start(t)
	phone := x.Phone(alice, push.IOS)
	if _, err := phone.PublicKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, x)
	answer, err := phone.Register(t.Context())
	wantAnswer(t, answer, err, http.StatusConflict, 14, x.Exchange.Fingerprint())
	if after := snapshot(t, x); after != before {
		t.Errorf("the database changed:\nbefore %s\nafter  %s", before, after)
	}
	if n := len(x.Exchange.Requests()); n != 0 {
		t.Errorf("%d requests were sent to a server that is not the pinned one", n)
	}
}
