package server_test

import (
	"io"
	"path/filepath"
	"testing"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/sns/snstest"
)

const (
	snsRole  = "arn:aws:iam::" + snstest.Account + ":role/ens"
	snsToken = "a-token-of-the-cluster"
)

// throughAmazon starts a tenant that reaches its phones through Amazon: iPhones with an access key, Android phones with
// a role.
func throughAmazon(t *testing.T, logs io.Writer) (*runtimetest.Tenant, *snstest.Server) {
	t.Helper()
	amazon := snstest.Start(snstest.Options{Logf: t.Logf})
	t.Cleanup(amazon.Close)
	amazon.TrustRole(snsRole, snsToken)
	provider := func(name, platform, role string, appIDs ...string) config.PushProvider {
		return config.PushProvider{Name: name, CABundle: true, SNS: &config.SNS{
			ApplicationARN: amazon.AddApplication(platform, "boxer"), AppIDs: appIDs, RoleARN: role, URL: amazon.URL(), STSURL: amazon.URL(),
		}}
	}
	x := runtimetest.New(t, runtimetest.Options{LogTo: logs, Configure: func(c *config.Config) {
		ens2(c)
		c.PushProviders = []config.PushProvider{
			provider("iphones", snstest.APNs, "", runtimetest.Topic),
			provider("androids", snstest.FCM, snsRole, runtimetest.Package),
		}
	}})
	key := amazon.AccessKey()
	for name, content := range map[string][]byte{
		"iphones/" + config.SNSAccessKeyIDFile:       []byte(key.ID + "\n"),
		"iphones/" + config.SNSSecretAccessKeyFile:   []byte(key.Secret + "\n"),
		"iphones/" + config.CABundleFile:             amazon.CertificatePEM(),
		"androids/" + config.SNSWebIdentityTokenFile: []byte(snsToken),
		"androids/" + config.CABundleFile:            amazon.CertificatePEM(),
	} {
		x.Write(t, filepath.Join(config.PushFolder, name), content)
	}
	x.Start(t)
	return x, amazon
}

func TestAMailReachesBothPhonesOfItsUserThroughAmazon(t *testing.T) {
	t.Parallel()
	logs := &buffer{}
	x, amazon := throughAmazon(t, logs)
	ctx := runtimetest.Context(t)
	iphone, android := x.Phone(alice, push.IOS), x.Phone(alice, push.Android)
	runtimetest.MustRegister(t, iphone, 7)
	heard(t, x, "OK")
	waitFresh(t, iphone)
	runtimetest.MustRegister(t, android, 6)

	deliver(t, x, lunch)
	shown, err := amazon.Wait(ctx, iphone.DeviceToken, 1)
	if err != nil {
		t.Fatal(err)
	}
	if alert := shown[0].Apple.APS.Alert; alert == nil || alert.Title != lunch.FromName || alert.Subtitle != lunch.Subject {
		t.Errorf("the iPhone shows %+v", alert)
	}
	if badge := shown[0].Apple.APS.Badge; badge == nil || *badge != 1 || shown[0].Apple.Topic != runtimetest.Topic {
		t.Errorf("the badge is %v for %s, want 1", badge, shown[0].Apple.Topic)
	}
	data, err := amazon.Wait(ctx, android.DeviceToken, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got := data[0].Google.Data; got["title"] != lunch.FromName || got["subtitle"] != lunch.Subject || got["unread"] != "1" {
		t.Errorf("the Android phone got %v", got)
	}
	if n := len(x.APNs.Notifications(iphone.DeviceToken)) + len(x.FCM.Messages(android.DeviceToken)); n != 0 {
		t.Errorf("%d notifications went past Amazon", n)
	}
	user := "User Id:[" + iphone.UserID() + "]  "
	awaitLines(t, logs,
		"Info "+business+"AmazonSNSHelper.PostNotifications "+user+"Sending notification via SNS",
		"Info "+business+"AmazonSNSHelper.PushNotificationViaSNS "+user+"Notification successfully sent via SNS for [1]",
	)
}

func TestAPhoneThatAmazonHasDisabledIsRetiredUntilItRegistersAgain(t *testing.T) {
	t.Parallel()
	x, amazon := throughAmazon(t, io.Discard)
	ctx := runtimetest.Context(t)
	iphone, android := x.Phone(alice, push.IOS), x.Phone(alice, push.Android)
	runtimetest.MustRegister(t, iphone, 7)
	heard(t, x, "OK")
	waitFresh(t, iphone)
	runtimetest.MustRegister(t, android, 6)
	deliver(t, x, lunch)
	if _, err := amazon.Wait(ctx, iphone.DeviceToken, 1); err != nil {
		t.Fatal(err)
	}

	// The app is removed: Amazon learns of it with the next mail, and we with the one after.
	amazon.Unregister(iphone.DeviceToken)
	for n := 2; n <= 3; n++ {
		deliver(t, x, lunch)
		if _, err := amazon.Wait(ctx, android.DeviceToken, n); err != nil {
			t.Fatal(err)
		}
	}
	runtimetest.Eventually(t, func() string {
		answer, err := iphone.Status(t.Context())
		if err != nil {
			return err.Error()
		}
		if answer.Code == 17 {
			return "the phone with the dead token is still taken for registered"
		}
		return ""
	})

	// The app is installed again and keeps its token.
	amazon.Register(iphone.DeviceToken)
	runtimetest.MustRegister(t, iphone, 7)
	deliver(t, x, lunch)
	if _, err := amazon.Wait(ctx, iphone.DeviceToken, 2); err != nil {
		t.Errorf("the phone that came back is told nothing: %v", err)
	}
}
