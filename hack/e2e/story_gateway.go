package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/ens-operator/ens-operator/hack/e2e/traffic"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/ews/segtest"
	"github.com/ens-operator/ens-operator/runtime/push"
)

// unloaded is how long the gateway has no policies: longer than the runtime tries again at once, so that mail rests in its
// journal.
const unloaded = 15 * time.Second

// gateway lets the gateway refuse somebody's phone and lose its policies, as after a restart, while mail of others comes
// through it. What is owed is told when it can be.
func gateway(ctx context.Context, t *theatre) error {
	eve := t.tenant.NewUserOfGateway("eve", push.IOS)
	if err := eve.Register(ctx); err != nil {
		return err
	}
	err := t.underTraffic(ctx, func(ctx context.Context) error {
		if err := t.refuse(ctx, eve); err != nil {
			return err
		}
		t.Outside.Gateway.SetPolicyLoaded(false)
		t.say("the gateway has lost its policies, and answers 204")
		time.Sleep(unloaded)
		t.Outside.Gateway.SetPolicyLoaded(true)
		t.say("it has them again")
		if told := t.alerts(eve); told != 0 {
			return fmt.Errorf("a phone that is not compliant was told of %d mails", told)
		}
		return t.permit(ctx, eve)
	})
	if told := t.alerts(eve); err == nil && told != 1 {
		err = fmt.Errorf("the phone that was refused for a while shows its mail %d times", told)
	}
	return err
}

// refuse has a user's phone found to be compromised, and a mail come for it.
func (t *theatre) refuse(ctx context.Context, user *traffic.User) error {
	ctx, cancel := context.WithTimeout(ctx, waitLimit)
	defer cancel()
	device := user.Phones[0].DeviceID
	t.Outside.Gateway.SetCompliant(device, false)
	mail := ewstest.Mail{FromName: "Bob Builder", FromAddress: "bob@example.com", Subject: "The plans"}
	if _, err := t.Outside.Exchange.Deliver(user.Address, mail); err != nil {
		return err
	}
	denied, err := t.Outside.Gateway.WaitRequest(ctx, func(r segtest.Request) bool {
		return r.Status == http.StatusForbidden && slices.Contains(r.Devices, device)
	})
	if err != nil {
		return err
	}
	t.say("a phone is compromised: the gateway answers 403 to the fetch for it (transaction %s)", denied.Transaction)
	return nil
}

// permit has the phone found compliant again, and waits until it is told of the mail.
func (t *theatre) permit(ctx context.Context, user *traffic.User) error {
	began := time.Now()
	t.Outside.Gateway.SetCompliant(user.Phones[0].DeviceID, true)
	err := await(ctx, "the phone that is compliant again to be told", func(context.Context) (bool, error) {
		return t.alerts(user) > 0, nil
	})
	if err == nil {
		t.say("the phone was told nothing; compliant again, it shows its mail %.1f s later", time.Since(began).Seconds())
	}
	return err
}
