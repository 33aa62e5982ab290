package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/protocol/boxertest"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/apns/apnstest"
)

const (
	alice = "alice@example.com"
	// alicesPassword, mailSubject and mailPreview are what must be found nowhere afterwards.
	alicesPassword = "only-Alice-and-Exchange-know-this"
	mailSubject    = "Lunch on Friday?"
	mailPreview    = "The new place by the river, at noon."
	// sampleApp and sampleProject are what the samples serve.
	sampleApp     = "com.example.mail"
	sampleProject = "ens-operator-sample"
	// stepTimeout bounds one step of the story, each of which takes milliseconds.
	stepTimeout = 30 * time.Second
)

// story is what has been told so far.
type story struct {
	*scene
	*narrator
	iphone, android, doras *boxertest.Phone
	// phone makes a phone of that user.
	phone func(address string, platform push.Platform) *boxertest.Phone
	// tokens are the OAuth tokens that were issued.
	tokens      []string
	mail        string
	mailArrived time.Time
	// shown is what the iPhone got.
	shown      apnstest.Alert
	shownBadge int
}

// tell tells the story from the manifests to the last goodbye.
func tell(ctx context.Context, n *narrator, s *scene) (*story, error) {
	t := &story{scene: s, narrator: n}
	for _, step := range []struct {
		chapter string
		run     func(context.Context) error
	}{
		{"The administrator applies the manifests", t.administer},
		{"The phones register", t.register},
		{"Mail arrives", t.mailArrives},
		{"A second user: OAuth by rsa-split, through a Secure Email Gateway", t.registerByToken},
		{"Mail through the gateway", t.passTheGateway},
		{"The mail is read, and the phones say goodbye", t.goodbye},
	} {
		n.chapter(step.chapter)
		if err := step.run(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", strings.ToLower(step.chapter[:1])+step.chapter[1:], err)
		}
	}
	return t, nil
}

func (t *story) administer(ctx context.Context) error {
	if err := t.apply(ctx, t.narrator); err != nil {
		return err
	}
	if err := t.waitProvisioned(ctx, "acme"); err != nil {
		return err
	}
	t.say("the operator has provisioned the tenant:")
	for _, c := range t.tenant.Status.Conditions {
		t.say("    %-20s %-8s %s", c.Type, c.Status, c.Reason)
	}
	if err := t.startRuntime(ctx); err != nil {
		return err
	}
	t.say("no kubelet here: ens-runtime runs as a process from the Deployment's own volumes, on %s", t.address)
	return t.meetRuntime(ctx)
}

// meetRuntime takes what the administrator gives to phones and Exchange: the address, the token, the certificate.
func (t *story) meetRuntime(ctx context.Context) error {
	certificate, boxer := &corev1.Secret{}, &corev1.Secret{}
	if err := t.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: string(t.tenant.Spec.TLS.SecretName)}, certificate); err != nil {
		return err
	}
	t.roots = x509.NewCertPool()
	if !t.roots.AppendCertsFromPEM(certificate.Data[corev1.TLSCertKey]) {
		return errors.New("the tenant's certificate cannot be read")
	}
	t.exchange.TrustCallbacks(t.roots)
	if err := t.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: t.tenant.Status.Secrets.Boxer}, boxer); err != nil {
		return err
	}
	phones := &http.Client{Timeout: stepTimeout, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: t.roots, MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, t.address)
		},
	}}
	t.phone = func(address string, platform push.Platform) *boxertest.Phone {
		id := make([]byte, 32)
		_, _ = rand.Read(id)
		phone := &boxertest.Phone{
			BaseURL: string(boxer.Data["ENSLinkAddress"]), APIToken: string(boxer.Data["ENSAPIToken"]), Client: phones,
			EWSURL: string(boxer.Data["EWSUrl.exchange"]), Address: address, Username: address,
			DeviceID: strings.ToUpper(hex.EncodeToString(id[:16])), DeviceToken: hex.EncodeToString(id),
			Platform: string(platform), AppID: sampleApp,
		}
		if platform == push.IOS {
			t.apns.AddDevice(phone.DeviceToken, sampleApp)
		} else {
			t.fcm.AddDevice(phone.DeviceToken)
		}
		return phone
	}
	t.iphone, t.android = t.phone(alice, push.IOS), t.phone(alice, push.Android)
	t.iphone.Password, t.android.Password = alicesPassword, alicesPassword
	t.exchange.AddMailbox(ewstest.Mailbox{Address: alice, Password: alicesPassword, Name: "Alice Adams"})
	t.say("the phones get ENSLinkAddress %s and the API token", t.iphone.BaseURL)
	return nil
}

func (t *story) register(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	if err := t.enter(ctx, "Alice's iPhone", t.iphone, 7, "UserSubscribed"); err != nil {
		return err
	}
	_, err := t.exchange.WaitCallback(ctx, func(c ewstest.Callback) bool {
		return c.Reply == "OK" && len(c.Events) > 0 && c.Events[0] == "StatusEvent"
	})
	if err != nil {
		return fmt.Errorf("waiting for Exchange's first StatusEvent: %w", err)
	}
	t.say("Exchange has sent its first StatusEvent to the webhook and was answered OK")
	if err := t.waitStatus(ctx, t.iphone, 17); err != nil {
		return err
	}
	return t.enter(ctx, "Alice's Android phone", t.android, 6, "UserAlreadySubscribed")
}

func (t *story) enter(ctx context.Context, who string, phone *boxertest.Phone, code int, name string) error {
	if answer, err := phone.PublicKey(ctx); err != nil || answer.Code != 3 {
		return fmt.Errorf("%s: getpublickey was answered %d/%d %s: %w", who, answer.Status, answer.Code, answer.Message, orNil(err))
	}
	t.say("%s: getpublickey → 3 UpdateSuccess; it encrypts its credential under that key", who)
	answer, err := phone.Register(ctx)
	if err != nil || answer.Code != code {
		return fmt.Errorf("%s: registerdevicev2 was answered %d/%d %s: %w", who, answer.Status, answer.Code, answer.Message, orNil(err))
	}
	if code == 7 {
		t.say("    the runtime has opened the Inbox with it (the proof), and subscribed at Exchange")
	}
	t.say("%s: registerdevicev2 → %d %s", who, code, name)
	return nil
}

// errUnexpected stands where a call was answered, but not as the story goes.
var errUnexpected = errors.New("not as the story goes")

func orNil(err error) error {
	if err == nil {
		return errUnexpected
	}
	return err
}

func (t *story) waitStatus(ctx context.Context, phone *boxertest.Phone, code int) error {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		answer, err := phone.Status(ctx)
		if err != nil {
			return err
		}
		if answer.Code == code && answer.Fields["lastCallback"] != nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("status stays at %d: %w", answer.Code, ctx.Err())
		}
	}
}

func (t *story) mailArrives(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	t.mailArrived = time.Now()
	var err error
	t.mail, err = t.exchange.Deliver(alice, ewstest.Mail{
		FromName: "Bob Builder", FromAddress: "bob@example.com", Subject: mailSubject, Preview: mailPreview,
	})
	if err != nil {
		return err
	}
	t.say("Bob's mail is in Alice's Inbox; Exchange posts SendNotification to the webhook")
	apple, err := t.apns.Wait(ctx, t.iphone.DeviceToken, 1)
	if err != nil {
		return fmt.Errorf("waiting for APNs: %w", err)
	}
	t.say("the runtime has fetched sender, subject and unread count; APNs has the notification %s after the mail came",
		time.Since(t.mailArrived).Round(time.Millisecond))
	google, err := t.fcm.Wait(ctx, t.android.DeviceToken, 1)
	if err != nil {
		return fmt.Errorf("waiting for FCM: %w", err)
	}
	t.say("FCM has it too")
	alert, badge := apple[0].APS.Alert, apple[0].APS.Badge
	if alert == nil || badge == nil || *badge != 1 || alert.Subtitle != mailSubject {
		return fmt.Errorf("the iPhone's notification: %w", errUnexpected)
	}
	if google[0].Data["subtitle"] != mailSubject {
		return fmt.Errorf("the Android phone's notification: %w", errUnexpected)
	}
	t.shown, t.shownBadge = *alert, *badge
	t.screen("iPhone", t.shownBadge, t.shown.Title, t.shown.Subtitle)
	t.screen("Android", 0, google[0].Data["title"], google[0].Data["subtitle"])
	return nil
}

func (t *story) goodbye(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	if err := t.exchange.MarkRead(t.mail); err != nil {
		return err
	}
	for n := 2; t.apns.Screen(t.iphone.DeviceToken).Badge != 0; n++ {
		if _, err := t.apns.Wait(ctx, t.iphone.DeviceToken, n); err != nil {
			return fmt.Errorf("waiting for the badge to go: %w", err)
		}
	}
	t.say("Alice has read the mail at her desk: the iPhone's badge is gone")
	for _, phone := range []struct {
		name  string
		phone *boxertest.Phone
		code  int
		text  string
	}{
		{"the iPhone", t.iphone, 25, "DeviceUnregistered"},
		{"the Android phone", t.android, 24, "DeviceUnregisteredUserUnsubscribed"},
	} {
		answer, err := phone.phone.Unregister(ctx)
		if err != nil || answer.Code != phone.code {
			return fmt.Errorf("%s: unregister was answered %d/%d %s: %w", phone.name, answer.Status, answer.Code, answer.Message, orNil(err))
		}
		t.say("%s: unregister → %d %s", phone.name, phone.code, phone.text)
	}
	t.exchange.Heartbeat(alice)
	if _, err := t.exchange.WaitCallback(ctx, func(c ewstest.Callback) bool { return c.Mailbox == alice && c.Reply == "Unsubscribe" }); err != nil {
		return fmt.Errorf("waiting for the subscription's end: %w", err)
	}
	t.say("Exchange's next post was answered Unsubscribe: nothing of Alice is left")
	return nil
}
