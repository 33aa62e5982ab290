package ews_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/ens-operator/ens-operator/runtime/ews"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
)

func TestTheInboxIsListedNewestFirst(t *testing.T) {
	t.Parallel()
	clock := clocktesting.NewFakeClock(time.Date(2026, 11, 26, 9, 0, 0, 0, time.UTC))
	exchange := newExchange(t, ewstest.Options{Clock: clock})
	var arrived []string
	for n := range 5 {
		clock.Step(time.Minute)
		arrived = append(arrived, deliver(t, exchange, alice, ewstest.Mail{Subject: fmt.Sprint(n)}))
	}
	if err := exchange.MarkRead(arrived[3]); err != nil {
		t.Fatal(err)
	}
	if _, err := exchange.Delete(arrived[2]); err != nil {
		t.Fatal(err)
	}
	deliver(t, exchange, "bob@example.com", ewstest.Mail{})
	session, ctx := aliceAt(t, exchange), testContext(t)
	for limit, want := range map[int][]string{
		100: {arrived[4], arrived[3], arrived[1], arrived[0]},
		2:   {arrived[4], arrived[3]},
	} {
		found, err := session.Newest(ctx, limit)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, message := range found {
			got = append(got, message.ItemID)
			if !message.Found || message.Subject != "" || message.ReceivedAt.IsZero() || message.ParentFolderID != exchange.InboxID(alice) ||
				message.IsRead != (message.ItemID == arrived[3]) {
				t.Errorf("listed %+v", message)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("with a limit of %d, listed %q, want %q", limit, got, want)
		}
	}
}

func TestAnEmptyInboxListsNothing(t *testing.T) {
	t.Parallel()
	found, err := aliceAt(t, newExchange(t, ewstest.Options{})).Newest(testContext(t), 10)
	if err != nil || len(found) != 0 {
		t.Errorf("listed %v, error %v", found, err)
	}
}

func TestAListWithoutUsableIDsIsRefused(t *testing.T) {
	t.Parallel()
	list := func(content string) []byte {
		return respond("FindItem", success, `<m:ResponseCode>NoError</m:ResponseCode>`+content)
	}
	for name, body := range map[string][]byte{
		"no folder":                list(``),
		"no list":                  list(`<m:RootFolder/>`),
		"an item without id":       list(`<m:RootFolder><t:Items><t:Message/></t:Items></m:RootFolder>`),
		"an id with control bytes": list(`<m:RootFolder><t:Items><t:Message><t:ItemId Id="a&#10;b"/></t:Message></t:Items></m:RootFolder>`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var a answers
			a.set(http.StatusOK, body)
			server := httptest.NewTLSServer(&a)
			t.Cleanup(server.Close)
			if found, err := sessionAt(t, server).Newest(testContext(t), 10); !errors.Is(err, ews.ErrResponse) {
				t.Errorf("listed %+v with error %v, want ErrResponse", found, err)
			}
		})
	}
}

func TestReportsThatAMailArrivedAreToldFromMail(t *testing.T) {
	t.Parallel()
	exchange := newExchange(t, ewstest.Options{})
	session, ctx := aliceAt(t, exchange), testContext(t)
	for class, want := range map[string]bool{
		"":                                   false,
		"IPM.Note.SMIME.MultipartSigned":     false,
		"IPM.Schedule.Meeting.Request":       false,
		"REPORT.IPM.Note.NDR":                false, // it did not arrive
		"REPORT.IPM.Note.DR":                 true,
		"REPORT.IPM.Note.IPNRN":              true,
		"report.ipm.schedule.meeting.ipnnrn": true,
		"IPM.Note.DR":                        false,
	} {
		id := deliver(t, exchange, alice, ewstest.Mail{Class: class})
		messages, err := session.Messages(ctx, []string{id}, ews.Fields{})
		if err != nil || messages[0].Receipt != want {
			t.Errorf("class %q: %+v, error %v, want a receipt: %t", class, messages, err, want)
		}
	}
}
