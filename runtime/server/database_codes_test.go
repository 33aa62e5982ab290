package server_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/protocol"
	"github.com/ens-operator/ens-operator/runtime/protocol/boxertest"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

// outage is something that the database does not do for the runtime for a while.
type outage struct{ begin, end string }

// unreadable is an outage in which the runtime may not read a table.
func unreadable(table string) outage {
	return outage{`REVOKE SELECT ON ` + table + ` FROM %role`, `GRANT SELECT ON ` + table + ` TO %role`}
}

// unwritable is an outage in which an operation (INSERT, UPDATE or DELETE) fails at the first row of a table.
func unwritable(operation, table string) outage {
	return outage{
		`CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no space left''; END';
CREATE TRIGGER fail BEFORE ` + operation + ` ON ` + table + ` FOR EACH ROW EXECUTE FUNCTION fail()`,
		`DROP FUNCTION fail() CASCADE`,
	}
}

// start begins the outage and returns what ends it.
func (o outage) start(t *testing.T, x *runtimetest.Tenant) (end func()) {
	t.Helper()
	role := pgx.Identifier{x.Schema.Role}.Sanitize()
	exec := func(sql string) {
		t.Helper()
		for statement := range strings.SplitSeq(sql, ";\n") {
			x.Schema.Exec(t, strings.ReplaceAll(statement, "%role", role))
		}
	}
	exec(o.begin)
	return func() {
		t.Helper()
		exec(o.end)
	}
}

// records is all that is on record of users, devices and subscriptions.
func records(t *testing.T, x *runtimetest.Tenant) string {
	t.Helper()
	return storetest.Value[string](t, x.Schema, `SELECT jsonb_pretty(jsonb_build_object(
'users', (SELECT jsonb_agg(u ORDER BY u.id) FROM users u),
'devices', (SELECT jsonb_agg(d ORDER BY d.ref) FROM devices d),
'subscriptions', (SELECT jsonb_agg(s ORDER BY s.user_id, s.generation) FROM subscriptions s)))`)
}

func TestACallThatTheDatabaseFailsIsUpdateFailAndChangesNothing(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		outage outage
		call   func(ctx context.Context, p *boxertest.Phone) (boxertest.Answer, error)
		// code is what the call is answered once the database has recovered.
		code int
	}{
		"getpublickey of a known user": {unreadable("users"), func(ctx context.Context, p *boxertest.Phone) (boxertest.Answer, error) {
			return p.PublicKey(ctx)
		}, 3},
		"getpublickey of a new user": {unwritable("INSERT", "users"), func(ctx context.Context, p *boxertest.Phone) (boxertest.Answer, error) {
			stranger := *p
			stranger.Address = "stranger@example.com"
			return stranger.PublicKey(ctx)
		}, 3},
		"getpublickey of a new user whose state is not kept": {unwritable("INSERT", "user_state"), func(ctx context.Context, p *boxertest.Phone) (boxertest.Answer, error) {
			stranger := *p
			stranger.Address = "stranger@example.com"
			return stranger.PublicKey(ctx)
		}, 3},
		"status": {unreadable("user_state"), func(ctx context.Context, p *boxertest.Phone) (boxertest.Answer, error) {
			return p.Status(ctx)
		}, 17},
		"unregister that cannot remove the device": {unwritable("DELETE", "devices"), func(ctx context.Context, p *boxertest.Phone) (boxertest.Answer, error) {
			return p.Unregister(ctx)
		}, 24},
		"unregister that cannot remove the user": {unwritable("DELETE", "users"), func(ctx context.Context, p *boxertest.Phone) (boxertest.Answer, error) {
			return p.Unregister(ctx)
		}, 24},
		"updatedevicetoken": {unwritable("UPDATE", "devices"), func(ctx context.Context, p *boxertest.Phone) (boxertest.Answer, error) {
			return p.UpdateToken(ctx, strings.Repeat("ab", 32))
		}, 3},
		"updatesynckey": {unwritable("UPDATE", "devices"), func(ctx context.Context, p *boxertest.Phone) (boxertest.Answer, error) {
			return p.UpdateSyncKey(ctx, "the next key")
		}, 3},
		"updatesettings": {unwritable("UPDATE", "devices"), func(ctx context.Context, p *boxertest.Phone) (boxertest.Answer, error) {
			return p.UpdateSettings(ctx, map[string]any{"sound": "chime.caf"})
		}, 3},
		"updatecredentials": {unwritable("UPDATE", "subscriptions"), func(ctx context.Context, p *boxertest.Phone) (boxertest.Answer, error) {
			return p.UpdateCredentials(ctx)
		}, 3},
		"a call about a device that cannot be looked up": {unreadable("devices"), func(ctx context.Context, p *boxertest.Phone) (boxertest.Answer, error) {
			return p.UpdateSettings(ctx, map[string]any{"badge": false})
		}, 3},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := runtimetest.New(t, runtimetest.Options{})
			x.Start(t)
			phone := x.Phone(alice, push.IOS)
			phone.Encryption = boxertest.RSASplit
			runtimetest.MustRegister(t, phone, 7)
			heard(t, x, "OK")
			waitFresh(t, phone)
			before := records(t, x)

			end := test.outage.start(t, x)
			answer, err := test.call(t.Context(), phone)
			wantAnswer(t, answer, err, http.StatusInternalServerError, 4, "database")
			if after := records(t, x); after != before {
				t.Errorf("something is half-written:\nbefore %s\nafter %s", before, after)
			}
			end()
			answer, err = test.call(t.Context(), phone)
			wantAnswer(t, answer, err, http.StatusOK, test.code, "")
		})
	}
}

func TestARegistrationThatTheDatabaseFailsBeforeSubscribingAsksExchangeForNothing(t *testing.T) {
	t.Parallel()
	tests := map[string]outage{
		"the user cannot be looked up":                unreadable("users"),
		"how the user stands cannot be looked up":     unreadable("user_state"),
		"no generation can be taken":                  {`REVOKE USAGE ON SEQUENCE generations FROM %role`, `GRANT USAGE ON SEQUENCE generations TO %role`},
		"the attempt to subscribe cannot be recorded": unwritable("INSERT", "subscriptions"),
	}
	for name, outage := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := runtimetest.New(t, runtimetest.Options{})
			x.Start(t)
			phone := x.Phone(alice, push.IOS)
			if _, err := phone.PublicKey(t.Context()); err != nil {
				t.Fatal(err)
			}
			before := records(t, x)
			end := outage.start(t, x)
			answer, err := phone.Register(t.Context())
			wantAnswer(t, answer, err, http.StatusInternalServerError, 8, "database")
			if after := records(t, x); after != before {
				t.Errorf("something is half-written:\nbefore %s\nafter %s", before, after)
			}
			if n := len(x.Exchange.Subscriptions()); n != 0 {
				t.Errorf("Exchange has made %d subscriptions", n)
			}
			end()
			runtimetest.MustRegister(t, phone, 7)
			wantShownOnce(t, x, phone)
		})
	}
}

func TestASubscriptionThatTheDatabaseDoesNotRecordIsMadeAnew(t *testing.T) {
	t.Parallel()
	tests := map[string]outage{
		"the user's record cannot be changed":  unwritable("UPDATE", "users"),
		"the device cannot be attached":        unwritable("INSERT OR UPDATE", "devices"),
		"the subscription cannot be activated": unwritable("UPDATE", "subscriptions"),
	}
	for name, outage := range tests {
		for _, again := range []bool{false, true} {
			whose := map[bool]string{false: ", of a new phone", true: ", of a phone that is in"}[again]
			t.Run(name+whose, func(t *testing.T) {
				t.Parallel()
				x := runtimetest.New(t, runtimetest.Options{})
				x.Start(t)
				phone := x.Phone(alice, push.IOS)
				phone.Extra = map[string]any{"forceSubscription": true}
				if again {
					runtimetest.MustRegister(t, phone, 7)
					heard(t, x, "OK")
				} else if _, err := phone.PublicKey(t.Context()); err != nil {
					t.Fatal(err)
				}
				before, made := entered(t, x), len(x.Exchange.Subscriptions())

				end := outage.start(t, x)
				answer, err := phone.Register(t.Context())
				wantAnswer(t, answer, err, http.StatusInternalServerError, 15, "database")
				if n := len(x.Exchange.Subscriptions()) - made; n != 1 {
					t.Errorf("Exchange has made %d subscriptions, want that which was not recorded", n)
				}
				if after := entered(t, x); after != before {
					t.Errorf("something is half-written:\nbefore %s\nafter %s", before, after)
				}
				end()
				runtimetest.MustRegister(t, phone, 7)
				x.Exchange.Heartbeat(alice)
				heard(t, x, "Unsubscribe") // the one that was not recorded, since there is a newer one
				wantShownOnce(t, x, phone)
			})
		}
	}
}

// entered is what a registration that fails at its end must not have changed: everything but its pending attempt.
func entered(t *testing.T, x *runtimetest.Tenant) string {
	t.Helper()
	return storetest.Value[string](t, x.Schema, `SELECT jsonb_pretty(jsonb_build_object(
'users', (SELECT jsonb_agg(u ORDER BY u.id) FROM users u),
'devices', (SELECT jsonb_agg(d ORDER BY d.ref) FROM devices d),
'subscriptions', (SELECT jsonb_agg(s ORDER BY s.generation) FROM subscriptions s WHERE state <> 'pending')))`)
}

// wantShownOnce lets a mail arrive and wants the phone to show it once.
func wantShownOnce(t *testing.T, x *runtimetest.Tenant, phone *boxertest.Phone) {
	t.Helper()
	deliver(t, x, lunch)
	if _, err := x.APNs.Wait(runtimetest.Context(t), phone.DeviceToken, 1); err != nil {
		t.Fatalf("the mail is not shown: %v", err)
	}
	if err := x.Exchange.WaitIdle(runtimetest.Context(t)); err != nil {
		t.Fatal(err)
	}
	if shown := alertsOf(x, phone); !slices.Equal(shown, []string{lunch.FromName}) {
		t.Errorf("shown are %q", shown)
	}
}

// scene does what leads to a response code, for a phone of a user of its own, and returns the answer.
type scene func(t *testing.T, x *runtimetest.Tenant, phone *boxertest.Phone) (boxertest.Answer, error)

// afterKey fetches the key and then does as told.
func afterKey(next func(context.Context, *boxertest.Phone) (boxertest.Answer, error)) scene {
	return func(t *testing.T, _ *runtimetest.Tenant, phone *boxertest.Phone) (boxertest.Answer, error) {
		if _, err := phone.PublicKey(t.Context()); err != nil {
			t.Fatal(err)
		}
		return next(t.Context(), phone)
	}
}

// registering registers the phone after a change to what it sends.
func registering(change func(*boxertest.Phone)) scene {
	return afterKey(func(ctx context.Context, phone *boxertest.Phone) (boxertest.Answer, error) {
		phone.Extra = map[string]any{}
		change(phone)
		return phone.Register(ctx)
	})
}

// onceIn does as told once the phone is in and Exchange has posted for its user.
func onceIn(next scene) scene {
	return func(t *testing.T, x *runtimetest.Tenant, phone *boxertest.Phone) (boxertest.Answer, error) {
		runtimetest.MustRegister(t, phone, 7)
		waitFresh(t, phone)
		return next(t, x, phone)
	}
}

// withSecond does as told with a second phone of the same user.
func withSecond(next func(context.Context, *boxertest.Phone) (boxertest.Answer, error)) scene {
	return onceIn(func(t *testing.T, x *runtimetest.Tenant, phone *boxertest.Phone) (boxertest.Answer, error) {
		second := x.Phone(phone.Address, push.Android)
		if _, err := second.PublicKey(t.Context()); err != nil {
			t.Fatal(err)
		}
		return next(t.Context(), second)
	})
}

// duringOutage does as told while the database fails.
func duringOutage(o outage, next scene) scene {
	return func(t *testing.T, x *runtimetest.Tenant, phone *boxertest.Phone) (boxertest.Answer, error) {
		if _, err := phone.PublicKey(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer o.start(t, x)()
		return next(t, x, phone)
	}
}

// calling makes a call of the phone.
func calling(how func(*boxertest.Phone, context.Context) (boxertest.Answer, error)) scene {
	return func(t *testing.T, _ *runtimetest.Tenant, phone *boxertest.Phone) (boxertest.Answer, error) {
		return how(phone, t.Context())
	}
}

func unchanged(*boxertest.Phone) {}

// responseCodes are all codes of the contract that a phone can be answered, each with its call and HTTP status.
var responseCodes = []struct {
	code   protocol.Code
	status int
	when   string
	scene
}{
	{protocol.UpdateSuccess, 200, "getpublickey", calling((*boxertest.Phone).PublicKey)},
	{protocol.UpdateFail, 500, "getpublickey while the database fails", duringOutage(unreadable("users"), calling((*boxertest.Phone).PublicKey))},
	{protocol.TokenDoesNotExists, 404, "updatedevicetoken of an unknown device", calling(func(p *boxertest.Phone, ctx context.Context) (boxertest.Answer, error) {
		return p.UpdateToken(ctx, p.DeviceToken)
	})},
	{protocol.UserAlreadySubscribed, 200, "registerdevicev2 of a second phone", withSecond(func(ctx context.Context, p *boxertest.Phone) (boxertest.Answer, error) {
		return p.Register(ctx)
	})},
	{protocol.UserSubscribed, 200, "registerdevicev2", registering(unchanged)},
	{protocol.ErrorSubscribeOrUpdateDB, 500, "registerdevicev2 while the database fails", duringOutage(unwritable("INSERT", "subscriptions"), registering(unchanged))},
	{protocol.NoRecordExists, 404, "updatesynckey of an unknown user", calling(func(p *boxertest.Phone, ctx context.Context) (boxertest.Answer, error) {
		return p.UpdateSyncKey(ctx, "key")
	})},
	{protocol.SubscribeAgain, 409, "registerdevicev2 with a wrong password", registering(func(p *boxertest.Phone) { p.Password = "wrong" })},
	{protocol.UserSubscribedNotUpdatedInDB, 500, "registerdevicev2 when the last write fails", duringOutage(unwritable("INSERT", "devices"), registering(unchanged))},
	{protocol.FailedToGetEWSURLFromAutoDiscovery, 409, "registerdevicev2 without ewsUrl where there are several", registering(func(p *boxertest.Phone) { p.EWSURL = "" })},
	{protocol.Success, 200, "status of a phone that is in", onceIn(calling((*boxertest.Phone).Status))},
	{protocol.UnAuthorizedRequest, 401, "any call with a wrong token", calling(func(p *boxertest.Phone, ctx context.Context) (boxertest.Answer, error) {
		p.APIToken = "wrong"
		return p.Status(ctx)
	})},
	{protocol.DeviceUnregisteredUserUnsubscribed, 200, "unregister of the last phone", onceIn(calling((*boxertest.Phone).Unregister))},
	{protocol.DeviceUnregistered, 200, "unregister of one of two", withSecond(func(ctx context.Context, p *boxertest.Phone) (boxertest.Answer, error) {
		if answer, err := p.Register(ctx); err != nil || answer.Code != 6 {
			return answer, err
		}
		return p.Unregister(ctx)
	})},
	{protocol.DeviceNotRegistered, 200, "unregister of an unknown phone", withSecond(func(ctx context.Context, p *boxertest.Phone) (boxertest.Answer, error) {
		return p.Unregister(ctx)
	})},
	{protocol.UserSubscriptionNotFound, 200, "status of an unknown user", calling((*boxertest.Phone).Status)},
	{protocol.UserRecordPresentNotSubscribed, 200, "status after Exchange has lost the subscription", onceIn(func(t *testing.T, x *runtimetest.Tenant, p *boxertest.Phone) (boxertest.Answer, error) {
		x.Schema.Exec(t, `UPDATE subscriptions s SET state = 'retired' FROM users u WHERE u.id = s.user_id AND encode(u.user_hash, 'hex') = $1`, p.UserID())
		return p.Status(t.Context())
	})},
	{protocol.SubscribedNeedsUpdate, 200, "status of an unknown phone of a user who is in", withSecond(func(ctx context.Context, p *boxertest.Phone) (boxertest.Answer, error) {
		return p.Status(ctx)
	})},
	{protocol.Failed, 400, "a call without a required field", calling(func(p *boxertest.Phone, ctx context.Context) (boxertest.Answer, error) {
		return p.Call(ctx, "registerdevicev2", map[string]any{"userId": p.UserID()})
	})},
	{protocol.InvalidDecryptedPayload, 400, "registerdevicev2 under another key", registering(set("keyId", "0000000000000000"))},
	{protocol.EWSURLMismatch, 403, "registerdevicev2 for an ewsUrl that is not the tenant's", registering(func(p *boxertest.Phone) { p.EWSURL = "https://other.example.net/EWS/Exchange.asmx" })},
	{protocol.EWSURLMismatch, 409, "unregister with another ewsUrl", onceIn(func(t *testing.T, _ *runtimetest.Tenant, p *boxertest.Phone) (boxertest.Answer, error) {
		return p.Call(t.Context(), "unregister", map[string]any{"userId": p.UserID(), "deviceId": p.DeviceID, "ewsUrl": secondEndpoint})
	})},
	{protocol.InvalidAuthType, 400, "registerdevicev2 with an unknown authType", registering(set("authType", 9))},
}

// secondEndpoint is another endpoint of the tenant. Nobody is there.
const secondEndpoint = "https://second.example.com/EWS/Exchange.asmx"

func TestEveryResponseCodeIsAnsweredAsTheContractHasIt(t *testing.T) {
	t.Parallel()
	for _, row := range responseCodes {
		t.Run(row.code.String()+": "+row.when, func(t *testing.T) {
			t.Parallel()
			x := runtimetest.New(t, runtimetest.Options{Configure: func(c *config.Config) {
				other := c.Endpoints[0]
				other.Name, other.URL = "second", secondEndpoint
				c.Endpoints = append(c.Endpoints, other)
			}})
			x.Start(t)
			answer, err := row.scene(t, x, x.Phone(alice, push.IOS))
			wantAnswer(t, answer, err, row.status, int(row.code), "")
			if success := row.status == http.StatusOK; success != (answer.Fields["errorMessage"] == nil) {
				t.Errorf("the errorMessage is %v", answer.Fields["errorMessage"])
			}
		})
	}
	// The codes of protocol.md but 21, which is for the log alone.
	want := []int{3, 4, 5, 6, 7, 8, 9, 14, 15, 16, 17, 23, 24, 25, 26, 28, 29, 30, 32, 34, 35, 36}
	var shown []int
	for _, row := range responseCodes {
		shown = append(shown, int(row.code))
	}
	if shown = slices.Compact(slices.Sorted(slices.Values(shown))); !slices.Equal(shown, want) {
		t.Errorf("the table shows the codes %v, want %v", shown, want)
	}
}
