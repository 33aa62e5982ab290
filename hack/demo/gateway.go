package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/ews/segtest"
	"github.com/ens-operator/ens-operator/runtime/protocol/boxertest"
	"github.com/ens-operator/ens-operator/runtime/push"
)

const (
	dora = "dora@example.com"
	// doraSubject is what must be found nowhere afterwards.
	doraSubject = "The contract, for your eyes only"
	// tokenLife is that of an access token.
	tokenLife = time.Hour
	// gatewayEndpoint is the name of the second EwsEndpoint.
	gatewayEndpoint = "gateway"
)

// gatewayManifest is the EwsEndpoint of the secure email gateway.
func (s *scene) gatewayManifest() *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "ens-operator.io/v1alpha1", "kind": "EwsEndpoint",
		"metadata": map[string]any{"name": gatewayEndpoint},
		"spec": map[string]any{
			"url":                   s.gateway.URL(),
			"pinning":               map[string]any{"pinned": map[string]any{"sha256": []any{s.gateway.Fingerprint()}}},
			"authenticationMethods": []any{"OAuth"},
			"secureEmailGateway":    map[string]any{},
		},
	}}
}

// registerByToken lets a second user in: OAuth by rsa-split, through the gateway.
func (t *story) registerByToken(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	t.exchange.AddMailbox(ewstest.Mailbox{Address: dora, Name: "Dora Dean"})
	t.doras = t.phone(dora, push.IOS)
	t.doras.AuthType, t.doras.Encryption, t.doras.EWSURL = boxertest.AuthOAuth, boxertest.RSASplit, t.gateway.URL()
	t.renewToken()
	t.gateway.SetCompliant(t.doras.DeviceID, true)
	if err := t.enter(ctx, "Dora's iPhone", t.doras, 7, "UserSubscribed"); err != nil {
		return err
	}
	t.say("    … with an OAuth token by rsa-split: the data key rests in the webhook URL, the token sealed in Postgres")
	_, err := t.exchange.WaitCallback(ctx, func(c ewstest.Callback) bool { return c.Mailbox == dora && c.Reply == "OK" })
	if err != nil {
		return fmt.Errorf("waiting for the first StatusEvent: %w", err)
	}
	t.exchange.RevokeTokens(dora)
	t.renewToken()
	answer, err := t.doras.UpdateCredentials(ctx)
	if err != nil || answer.Code != 3 {
		return fmt.Errorf("updatecredentials was answered %d/%d %s: %w", answer.Status, answer.Code, answer.Message, orNil(err))
	}
	t.say("the token has ended; her iPhone sends the next one: updatecredentials → 3 UpdateSuccess, no new subscription")
	return nil
}

// renewToken gets an access token from the identity provider.
func (t *story) renewToken() {
	t.doras.Token, t.doras.TokenExpires = t.exchange.IssueToken(dora, tokenLife), time.Now().Add(tokenLife)
	t.tokens = append(t.tokens, t.doras.Token)
}

// passTheGateway shows mail that the gateway lets pass, and mail that it does not.
func (t *story) passTheGateway(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	mail := ewstest.Mail{FromName: "Eve Adams", FromAddress: "eve@example.com", Subject: doraSubject}
	if _, err := t.exchange.Deliver(dora, mail); err != nil {
		return err
	}
	got, err := t.apns.Wait(ctx, t.doras.DeviceToken, 1)
	if err != nil {
		return fmt.Errorf("waiting for APNs: %w", err)
	}
	alert := got[0].APS.Alert
	if alert == nil || alert.Subtitle != doraSubject {
		return fmt.Errorf("the notification: %w", errUnexpected)
	}
	t.say("mail for Dora: the SEG found her iPhone compliant and let the fetch pass, with the newer token")
	t.screen("Dora's iPhone", *got[0].APS.Badge, alert.Title, alert.Subtitle)

	t.gateway.SetCompliant(t.doras.DeviceID, false)
	if _, err := t.exchange.Deliver(dora, mail); err != nil {
		return err
	}
	denied, err := t.gateway.WaitRequest(ctx, func(r segtest.Request) bool { return r.Status == http.StatusForbidden })
	if err != nil {
		return fmt.Errorf("waiting for the SEG's 403: %w", err)
	}
	t.say("her iPhone is found to be compromised: the SEG answers 403 (transaction %.8s…), and it is told nothing", denied.Transaction)
	answer, err := t.doras.Unregister(ctx)
	if err != nil || answer.Code != 24 {
		return fmt.Errorf("unregister was answered %d/%d %s: %w", answer.Status, answer.Code, answer.Message, orNil(err))
	}
	if alerts := len(t.apns.Notifications(t.doras.DeviceToken)); alerts != 1 {
		return errors.Join(errUnexpected, fmt.Errorf("her iPhone was notified %d times", alerts))
	}
	t.say("wiped, it says goodbye: unregister → 24 DeviceUnregisteredUserUnsubscribed")
	return nil
}
