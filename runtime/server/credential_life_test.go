package server_test

import (
	"strings"
	"testing"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

func TestACredentialIsLetGoWhenItsTimeIsUp(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{Configure: shortLease}) // which bounds the time of a work, as 100 s do
	x.Start(t)
	phone := x.Phone(alice, push.IOS)
	runtimetest.MustRegister(t, phone, 7)
	heard(t, x, "OK")
	settled(t, x)
	begun, release := held(x)
	before := len(x.Exchange.Requests())
	deliver(t, x, lunch)
	<-begun

	// Exchange never answers. When the time is up the call is ended, and the mail is owed to whoever brings a credential.
	cut := func(r ewstest.Request) bool { return r.Number > before && r.Operation == "GetItem" && r.Status == 0 }
	if _, err := x.Exchange.WaitRequest(runtimetest.Context(t), cut); err != nil {
		t.Fatalf("the call is not ended: %v", err)
	}
	atRest(t, x)
	if n := storetest.Value[int](t, x.Schema, `SELECT count(*) FROM pending WHERE kind = 1 AND done_at IS NULL AND attempts = 0`); n != 1 {
		t.Errorf("%d mails are back in the journal, want 1", n)
	}
	if n := len(alertsOf(x, phone)); n != 0 {
		t.Errorf("%d alerts were shown for a mail that was not fetched", n)
	}
	if detail := storetest.Value[string](t, x.Schema, `SELECT coalesce(max(detail), '') FROM activity WHERE kind = 'mail not fetched'`); !strings.Contains(detail, "EmailFetchfailed") {
		t.Errorf("the timeline tells %q of it", detail)
	}
	release()
	heartbeatUntil(t, x, func() bool { return len(alertsOf(x, phone)) > 0 })
	settled(t, x)
	if got := alertsOf(x, phone); len(got) != 1 || got[0] != lunch.FromName {
		t.Errorf("shown are %q", got)
	}
}
