package server_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/protocol/boxertest"
	"github.com/ens-operator/ens-operator/runtime/push"
)

// registered are phones of so many users.
func registered(t *testing.T, x *runtimetest.Tenant, users int) []*boxertest.Phone {
	t.Helper()
	var phones []*boxertest.Phone
	for n := range users {
		phone := x.Phone(fmt.Sprintf("user%d@example.com", n), push.Android)
		runtimetest.MustRegister(t, phone, 7)
		phones = append(phones, phone)
	}
	settled(t, x)
	return phones
}

// mailToAll delivers one mail to each and waits until all are told.
func mailToAll(t *testing.T, x *runtimetest.Tenant, phones []*boxertest.Phone) {
	t.Helper()
	for _, phone := range phones {
		if _, err := x.Exchange.Deliver(phone.Address, lunch); err != nil {
			t.Fatal(err)
		}
	}
	settled(t, x)
}

func TestWrongPasswordsOfSeveralUsersAtOnceLockNobodyOut(t *testing.T) {
	t.Parallel()
	clock := &runtimetest.Clock{}
	x := runtimetest.New(t, runtimetest.Options{Clock: clock})
	x.Start(t)
	phones := registered(t, x, 4)
	for _, phone := range phones {
		x.Exchange.AddMailbox(ewstest.Mailbox{Address: phone.Address, Password: "another one, since this morning"})
	}
	for range 12 { // an hour of mail
		for range 3 {
			mailToAll(t, x, phones)
		}
		clock.Advance(5 * time.Minute)
	}
	// An hour has twelve times five minutes in it, each may see one try, and a few more posts cross with its answer.
	const most = 12 + 6
	for _, phone := range phones {
		if n := x.Exchange.AuthFailures(phone.Address); n > most {
			t.Errorf("the wrong password of %s was tried %d times in an hour", phone.Address, n)
		}
	}
}
