package sns_test

import (
	"errors"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/pushtest"
	"github.com/ens-operator/ens-operator/runtime/push/sns"
	"github.com/ens-operator/ens-operator/runtime/push/sns/snstest"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

// FuzzAnswer has Amazon's place answer anything.
func FuzzAnswer(f *testing.F) {
	server := snstest.Start(snstest.Options{Calm: true, Logf: func(string, ...any) {}})
	f.Cleanup(server.Close)
	key := server.AccessKey()
	provider, err := sns.New(sns.Options{
		Config:      config.SNS{ApplicationARN: server.AddApplication(snstest.APNs, "mail"), URL: server.URL()},
		Settings:    push.Settings{Name: "amazon", RootCAs: server.RootCAs(), Timeout: time.Second / 2},
		AccessKeyID: secret.FromString(key.ID), SecretAccessKey: secret.FromString(key.Secret),
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = provider.Close() })
	const existing = "arn:aws:sns:eu-central-1:123456789012:endpoint/APNS/mail/1"
	for _, body := range []string{
		"", "<html>welcome</html>", "<ErrorResponse><Error><Code>InvalidParameter</Code><Message>Invalid parameter: Token Reason: Endpoint " +
			existing + " already exists with the same Token, but different attributes.</Message></Error></ErrorResponse>",
		"<CreatePlatformEndpointResponse><CreatePlatformEndpointResult><EndpointArn>" + existing +
			"</EndpointArn></CreatePlatformEndpointResult></CreatePlatformEndpointResponse>",
		"<ErrorResponse><Error><Code>EndpointDisabled</Code></Error></ErrorResponse>",
	} {
		f.Add(uint8(0), body)
		f.Add(uint8(1), body)
	}
	device := push.Device{Ref: 8, Platform: push.IOS, Token: "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"}
	// No status after which requests are repeated: the pauses would take all the time.
	statuses := []int{200, 400, 403, 404, 413}
	f.Fuzz(func(t *testing.T, status uint8, body string) {
		fault := &snstest.Fault{Status: statuses[int(status)%len(statuses)], Body: body}
		server.OnRequest(func(snstest.Request) *snstest.Fault { return fault })
		err := provider.Push(t.Context(), device, pushtest.Mail())
		if err == nil {
			return
		}
		refusal, ok := errors.AsType[*push.Error](err)
		if !ok || refusal.Outcome < push.Retry || refusal.Outcome > push.Rejected {
			t.Fatalf("err = %v, want a refusal with an outcome", err)
		}
		pushtest.CheckDiscreet(t, err.Error(), device, pushtest.Mail())
	})
}
