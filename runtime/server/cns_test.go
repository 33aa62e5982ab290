package server_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/egress/proxytest"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/cns/cnstest"
)

func TestAMailReachesBothPhonesOfItsUserThroughVMware(t *testing.T) {
	t.Parallel()
	const signingPassword, clientPassword, proxyPassword = "of-the-signing-key", "of-the-client-key", "of-the-proxy"
	vmware := cnstest.Start(cnstest.Options{Logf: t.Logf, MutualTLS: true})
	t.Cleanup(vmware.Close)
	proxy := proxytest.Start("ens", proxyPassword)
	t.Cleanup(proxy.Close)
	proxy.Permit(vmware.URL())
	logs := &buffer{}
	x := runtimetest.New(t, runtimetest.Options{LogTo: logs, Configure: func(c *config.Config) {
		ens2(c)
		// iPhones by way of a proxy and with a client certificate of its own, Android phones with that which signs.
		c.PushProviders = []config.PushProvider{
			{Name: "iphones", CABundle: true, Proxy: &config.ForwardProxy{URL: proxy.URL(), Authenticate: true}, CNS: &config.CNS{
				AppIDs: []string{runtimetest.Topic}, URL: vmware.URL(), PublicKeySHA256: []string{vmware.PublicKeySHA256()},
				ClientCertificate: config.CNSClientOwn,
			}},
			{Name: "androids", CABundle: true, CNS: &config.CNS{
				Platform: config.CNSPlatformAndroid, URL: vmware.URL(), ClientCertificate: config.CNSClientSigning,
			}},
		}
	}})
	authority, tomorrow := vmware.Authority(), time.Now().Add(24*time.Hour)
	for name, content := range map[string][]byte{
		"iphones/" + config.CNSSigningFile:          authority.PFX("AW Cloud Notification - aTest", signingPassword, tomorrow),
		"iphones/" + config.CNSSigningPasswordFile:  []byte(signingPassword + "\n"),
		"iphones/" + config.CNSClientFile:           authority.PFX("client", clientPassword, tomorrow),
		"iphones/" + config.CNSClientPasswordFile:   []byte(clientPassword),
		"iphones/" + config.ProxyUsernameFile:       []byte("ens"),
		"iphones/" + config.ProxyPasswordFile:       []byte(proxyPassword),
		"iphones/" + config.CABundleFile:            vmware.CertificatePEM(),
		"androids/" + config.CNSSigningFile:         authority.PFX("AW Cloud Notification - aTest", signingPassword, tomorrow),
		"androids/" + config.CNSSigningPasswordFile: []byte(signingPassword),
		"androids/" + config.CABundleFile:           vmware.CertificatePEM(),
	} {
		x.Write(t, filepath.Join(config.PushFolder, name), content)
	}
	x.Start(t)
	ctx := runtimetest.Context(t)
	iphone, android := x.Phone(alice, push.IOS), x.Phone(alice, push.Android)
	vmware.AddDevice(iphone.DeviceToken)
	vmware.AddDevice(android.DeviceToken)
	runtimetest.MustRegister(t, iphone, 7)
	heard(t, x, "OK")
	waitFresh(t, iphone)
	runtimetest.MustRegister(t, android, 6)

	deliver(t, x, lunch)
	shown, err := vmware.Wait(ctx, iphone.DeviceToken, 1)
	if err != nil {
		t.Fatal(err)
	}
	if alert := shown[0].Apple.APS.Alert; alert == nil || alert.Title != lunch.FromName || alert.Subtitle != lunch.Subject {
		t.Errorf("the iPhone shows %+v", alert)
	}
	if badge := shown[0].Apple.APS.Badge; badge == nil || *badge != 1 || shown[0].Environment != "production" {
		t.Errorf("the badge is %v in %s, want 1 in production", badge, shown[0].Environment)
	}
	data, err := vmware.Wait(ctx, android.DeviceToken, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got := data[0].Google.Data; got["title"] != lunch.FromName || got["subtitle"] != lunch.Subject || got["unread"] != "1" {
		t.Errorf("the Android phone got %v", got)
	}
	if proxy.Passed() == 0 {
		t.Error("nothing went through the proxy")
	}

	// A phone whose app is gone is retired, and told nothing any more once it is.
	vmware.Unregister(iphone.DeviceToken)
	deliver(t, x, lunch)
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
	const cns = business + "CNSHelper."
	awaitLines(t, logs,
		"Debug "+cns+"CreateWebRequest User Id:[no-user-id]    CNS Url : ["+vmware.URL()+"]",
		"Debug "+business+"CertificateHelper.ComputeCmsSignature User Id:[no-user-id]    Signing URL [/nws/notify/apns] with Cert [CN=AW Cloud Notification - aTest]",
		"Debug "+cns+`ReadResponse User Id:[no-user-id]    Response {"status":"success","errorReason":null}`,
		"Info "+cns+"ReadResponse User Id:[no-user-id]    ResponseCode OK",
		"Error "+cns+"ReadResponse User Id:[no-user-id]    Failed To Post to CNS ["+vmware.URL()+"] Error: [push provider iphones: dead_token (status 200): Unregistered] Response: [Unregistered]",
	)
}
