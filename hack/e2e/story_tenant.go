package main

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/hack/e2e/traffic"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/push"
)

const (
	hostname = "ens.example.com"
	// crowd is how many further users the stories with traffic have.
	crowd = 24
	// everyFourth of them has an Android phone, too, and everyThird has the phones registered at the gateway.
	everyFourth, everyThird = 4, 3
)

// tenantFromNothing applies a tenant and everything that it needs at once, and waits for the first notification.
func tenantFromNothing(ctx context.Context, t *theatre) error {
	began := time.Now()
	since := func() float64 { return time.Since(began).Seconds() }
	if _, err := t.Apply(ctx, "tenant.yaml", t.tenantData()); err != nil {
		return err
	}
	tenant, err := t.awaitTenant(ctx, v1alpha1.ConditionReady)
	if err != nil {
		return err
	}
	t.say("apply to Ready: %.1f s", since())
	ready := since()
	if err := t.meetTenant(ctx, tenant); err != nil {
		return err
	}
	alice := t.tenant.NewUser("alice", push.IOS)
	// Traefik hears of the pods at most two seconds after they are ready; until then it answers 503, and phones try again.
	err = await(ctx, "Alice's iPhone to register", func(ctx context.Context) (bool, error) {
		err := alice.Register(ctx)
		return err == nil, err
	})
	if err != nil {
		return err
	}
	t.say("Alice's iPhone has registered at https://%s after %.1f s", hostname, since())
	const subject = "Lunch on Friday?"
	if _, err := t.Outside.Exchange.Deliver(alice.Address, ewstest.Mail{FromName: "Bob Builder", FromAddress: "bob@example.com", Subject: subject}); err != nil {
		return err
	}
	// The mail's number may be there a moment before: Exchange may tell of it by a post of its own, to the other pod.
	err = await(ctx, "the first notification", func(context.Context) (bool, error) { return t.alerts(alice) > 0, nil })
	if err != nil {
		return err
	}
	if shown := t.Outside.APNs.Screen(alice.Phones[0].DeviceToken).Alerts[0]; shown.Subtitle != subject {
		return fmt.Errorf("the first notification is not about the mail, but about %q", shown.Subtitle)
	}
	t.say("apply to first notification: %.1f s (%q)", since(), subject)
	result := fmt.Sprintf("apply to Ready %.1f s, to first notification %.1f s; ", ready, since())
	err = t.settleIn(ctx)
	t.counted = result + t.counted
	return err
}

// tenantData is what the tenant's manifests are filled with.
func (t *theatre) tenantData() map[string]any {
	o := t.Outside
	return map[string]any{
		"Namespace": namespace, "Name": tenantName, "Hostname": hostname, "App": traffic.App,
		"ExchangeURL": o.Exchange.URL(), "Fingerprints": []string{o.Exchange.Fingerprint()},
		"GatewayURL": o.Gateway.URL(), "GatewayFingerprint": o.Gateway.Fingerprint(),
		"APNsURL": o.APNs.URL(), "APNsKey": o.APNsKey.P8, "TeamID": o.APNsKey.TeamID, "KeyID": o.APNsKey.KeyID, "APNsCA": o.APNs.CertificatePEM(),
		"FCMURL": o.FCM.URL(), "TokenURL": o.FCM.TokenURL(), "Project": o.FCM.Project(), "FCMAccount": o.FCMAccount, "FCMCA": o.FCM.CertificatePEM(),
	}
}

// meetTenant takes what the administrator gives to phones: the address, the token.
func (t *theatre) meetTenant(ctx context.Context, tenant *v1alpha1.EnsTenant) error {
	boxer := &corev1.Secret{}
	if err := t.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: tenant.Status.Secrets.Boxer}, boxer); err != nil {
		return err
	}
	t.tenant = &traffic.Tenant{
		BaseURL: string(boxer.Data["ENSLinkAddress"]), APIToken: string(boxer.Data["ENSAPIToken"]),
		EWSURL: string(boxer.Data["EWSUrl.exchange"]), GatewayURL: string(boxer.Data["EWSUrl.gateway"]),
		Dial: t.Entry.Dial, Roots: t.Entry.Roots,
		Exchange: t.Outside.Exchange, Gateway: t.Outside.Gateway, APNs: t.Outside.APNs, FCM: t.Outside.FCM,
	}
	return nil
}

// settleIn has the crowd register, whose mail flows in the stories that follow.
func (t *theatre) settleIn(ctx context.Context) error {
	for i := range crowd {
		platforms := []push.Platform{push.IOS}
		if i%everyFourth == 0 {
			platforms = append(platforms, push.Android)
		}
		newUser := t.tenant.NewUser
		if i%everyThird == 0 {
			newUser = t.tenant.NewUserOfGateway
		}
		user := newUser(fmt.Sprintf("user%02d", i), platforms...)
		if err := user.Register(ctx); err != nil {
			return err
		}
		t.users = append(t.users, user)
	}
	t.say("%d more users have registered, every third of them through the gateway", crowd)
	return t.underTraffic(ctx, func(context.Context) error { return nil })
}
