package main

import (
	"io"
	"reflect"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/hack/loadgen/exchange"
	"github.com/ens-operator/ens-operator/runtime/protocol"
	"github.com/ens-operator/ens-operator/runtime/protocol/boxertest"
)

func fewVariants() settings {
	return settings{users: 64, inFlight: 8, stage: 200 * time.Millisecond, exchangeDelay: time.Millisecond, providerDelay: time.Millisecond}
}

// TestAFewMailsGoEachWay runs all variants small; variants fails if anything is lost, told twice or refused.
func TestAFewMailsGoEachWay(t *testing.T) {
	t.Parallel()
	r, err := variants(t.Context(), fewVariants(), t.Output())
	r.print(t.Output())
	if err != nil {
		t.Fatal(err)
	}
	values := r.values()
	for _, w := range allWays() {
		for _, name := range []string{"posts", "runtime's CPU a post", "Postgres' CPU a post", "statements a post", "WAL a post", "allocations a post", "rate"} {
			if values[w.name+"/"+name] <= 0 {
				t.Errorf("%s: %s is %v", w.name, name, values[w.name+"/"+name])
			}
		}
	}
	for name, least := range map[string]float64{
		"basic": 1, "oauth-split": 1, "ntlm": 2, "gateway": 1, "gateway-two": 2, "gateway-two-named": 1, "fcm": 1, "sns": 1,
	} {
		if got := values[name+"/requests to Exchange a post"]; got < least {
			t.Errorf("%s: %v requests to Exchange a post, want %v at least: it is not this way that was measured", name, got, least)
		}
	}
	if posts := values["sns, first of each device/posts"]; posts < 8 {
		t.Errorf("%v of 8 devices had a first notification through Amazon", posts)
	}
	compared := 0
	for _, f := range r.Figures {
		if f.First != 0 {
			compared++
		}
	}
	if compared == 0 {
		t.Error("nothing stands beside the first way")
	}
}

// TestFilledUsersAreAsRegisteredOnes registers the phone of a user of each way again and compares the rows before and after.
func TestFilledUsersAreAsRegisteredOnes(t *testing.T) {
	t.Parallel()
	s := fewVariants()
	s.arrangement.ways = allWays()
	x, err := setScene(t.Context(), s, io.Discard)
	t.Cleanup(x.close)
	if err != nil {
		t.Fatal(err)
	}
	if err := x.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := newPhones(x)
	for i, w := range s.arrangement.ways {
		m := exchange.Mailbox(i*x.layout.each + 1)
		before := x.row(t, m)
		if before["token_of_platform"] != true || before["state"] != "active" {
			t.Errorf("%s: filled in as %v", w.name, before)
		}
		phone := p.phone(m, m.Password())
		phone.DeviceToken, phone.Platform, phone.EWSURL = w.token(device{of: m}), string(w.platform), x.urlOf(w.endpoint)
		phone.AppID = w.app
		phone.Extra = map[string]any{
			"forceSubscription": true, "pushEnvironment": "production", "deviceLogId": phone.DeviceID[:8], "appVersion": "25.11.0", "osVersion": "19.1", "locale": "en-US",
		}
		if w.auth.HasToken() {
			if phone.Token, phone.TokenExpires, err = x.stations.oauth.IssueToken(m); err != nil {
				t.Fatal(err)
			}
			phone.AuthType = int(w.auth)
		}
		if w.split {
			phone.Encryption = boxertest.RSASplit
		}
		for _, step := range []struct {
			call func() (boxertest.Answer, error)
			want protocol.Code
		}{
			{func() (boxertest.Answer, error) { return phone.PublicKey(t.Context()) }, protocol.UpdateSuccess},
			{func() (boxertest.Answer, error) { return phone.Register(t.Context()) }, protocol.UserSubscribed},
		} {
			if answer, err := step.call(); err != nil || answer.Code != int(step.want) {
				t.Fatalf("%s: answered %d/%d %s, %v", w.name, answer.Status, answer.Code, answer.Message, err)
			}
		}
		if after := x.row(t, m); !reflect.DeepEqual(after, before) {
			t.Errorf("%s: a registration leaves\n%v\nfilled in is\n%v", w.name, after, before)
		}
	}
}

// row is what of a user's rows has to do with the way.
func (x *scene) row(t *testing.T, m exchange.Mailbox) map[string]any {
	t.Helper()
	const look = `SELECT s.state, s.endpoint, s.auth_type, s.updatable, s.sequence, s.device_id, s.webhook_key, octet_length(s.key_sealed) AS key,
		coalesce(octet_length(s.blob), 0) AS blob, d.platform, d.provider, d.app_id, d.push_environment, length(d.token) AS token,
		(length(d.token) > 64) = (d.platform = 'Android') AS token_of_platform, d.policy, d.sound, d.badge, d.locale, d.device_log_id,
		d.app_version, d.os_version, octet_length(u.mailbox_id) AS mailbox
		FROM users u JOIN subscriptions s ON s.user_id = u.id AND s.state = 'active' JOIN devices d ON d.user_id = u.id AND d.device_id = s.device_id
		WHERE u.id = $1`
	rows, err := x.pool.Query(t.Context(), look, int64(m))
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	if !rows.Next() {
		t.Fatalf("user %d has no subscription: %v", m, rows.Err())
	}
	values, err := rows.Values()
	if err != nil {
		t.Fatal(err)
	}
	row := map[string]any{}
	for i, column := range rows.FieldDescriptions() {
		row[column.Name] = values[i]
	}
	return row
}

// urlOf is the address of an endpoint.
func (x *scene) urlOf(endpoint string) string {
	return map[string]string{
		endpointName: x.exchange.URL(), oauthName: x.stations.oauth.URL(), ntlmName: x.stations.ntlm.URL(),
		gatewayName: x.stations.gateway.URL(), namingName: x.stations.naming.URL(),
	}[endpoint]
}

func TestAMailCountsAsToldWhenEachDeviceWasTold(t *testing.T) {
	t.Parallel()
	const alice, bob = exchange.Mailbox(1), exchange.Mailbox(2)
	about := func(m exchange.Mailbox, number int) notice {
		return notice{device: device{of: m, number: number}, received: time.Now(), alert: true, title: "Barbara", messageID: alice.ItemID(1)}
	}
	summary := notice{device: device{of: alice, number: 1}, received: time.Now(), alert: true, title: "1 new messages"}
	for name, c := range map[string]struct {
		notices []notice
		want    account
	}{
		"one of two":                          {[]notice{about(alice, 0)}, account{sent: 1, untold: 1}},
		"both":                                {[]notice{about(alice, 0), about(alice, 1)}, account{sent: 1, told: 1}},
		"one of them twice":                   {[]notice{about(alice, 0), about(alice, 0)}, account{sent: 1, untold: 1, twice: 1}},
		"both, and one of them again":         {[]notice{about(alice, 0), about(alice, 1), about(alice, 0)}, account{sent: 1, told: 1, twice: 1}},
		"one that she does not have":          {[]notice{about(alice, 2)}, account{sent: 1, untold: 1, unknown: 1}},
		"another's":                           {[]notice{about(bob, 0)}, account{sent: 1, untold: 1, unknown: 1}},
		"one by its subject, one by a number": {[]notice{about(alice, 0), summary}, account{sent: 1, told: 1}},
		"a number to one that knows":          {[]notice{about(alice, 1), summary}, account{sent: 1, untold: 1, unknown: 1}},
	} {
		l := newLedger(2)
		l.devices = func(exchange.Mailbox) int { return 2 }
		_, told := l.send(time.Now())
		l.fetched(alice, 1, 0)
		for _, n := range c.notices {
			l.accepted(n)
		}
		if got := l.account(); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
		select {
		case <-told:
			if c.want.told == 0 {
				t.Errorf("%s: whoever waited was woken", name)
			}
		default:
			if c.want.told > 0 {
				t.Errorf("%s: whoever waited was not woken", name)
			}
		}
	}
}

func TestATokenTellsTheDevice(t *testing.T) {
	t.Parallel()
	for _, w := range allWays() {
		for _, d := range []device{{of: 1}, {of: 70_000, number: 1}} {
			if got := deviceOf(w.token(d)); got != d {
				t.Errorf("%s: %+v is read as %+v", w.name, d, got)
			}
		}
	}
	if got := deviceOf("fcm:phone"); got != (device{}) {
		t.Errorf("a foreign token is read as %+v", got)
	}
}
