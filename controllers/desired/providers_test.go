package desired_test

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/desired"
)

// amazon is Amazon's way to iPhones or, with a role, to Android phones.
func amazon(platform api.PlatformApplicationARN, role string) *api.PushProvider {
	sns := &api.SNSProvider{PlatformApplicationARN: "arn:aws:sns:eu-central-1:123456789012:app/" + platform + "/mail"}
	if role != "" {
		sns.Credentials.WebIdentity = &api.SNSWebIdentity{RoleARN: role}
		sns.AppIDs = []api.AppID{"com.example.mail"}
		sns.STSURL = "https://sts.example.com"
	} else {
		sns.Credentials.AccessKey = &api.SNSAccessKey{
			AccessKeyIDSecretRef:     api.SecretKeyReference{Name: "amazon", Key: "id"},
			SecretAccessKeySecretRef: api.SecretKeyReference{Name: "amazon", Key: "secret"},
		}
	}
	return &api.PushProvider{ObjectMeta: metav1.ObjectMeta{Name: "amazon-" + strings.ToLower(string(platform))}, Spec: api.PushProviderSpec{SNS: sns}}
}

// vmware is all that can be said of VMware's way to iPhones.
func vmware() *api.PushProvider {
	return &api.PushProvider{
		ObjectMeta: metav1.ObjectMeta{Name: "vmware"},
		Spec: api.PushProviderSpec{CNS: &api.CNSProvider{
			AppIDs: []api.AppID{"com.example.mail"}, Environment: api.APNsSandbox, URL: "https://cns.example.com/nws",
			PublicKeySHA256:    []api.Fingerprint{api.Fingerprint(strings.Repeat("AB:", 31) + "CD")},
			SigningCertificate: pkcs12("signing"),
			MutualTLS:          &api.CNSMutualTLS{Certificate: new(pkcs12("client"))},
		}, Proxy: &api.ForwardProxy{URL: "http://proxy.example.com:3128", Credentials: &api.ProxyCredentials{
			UsernameSecretRef: api.SecretKeyReference{Name: "proxy", Key: "username"},
			PasswordSecretRef: api.SecretKeyReference{Name: "proxy", Key: "password"},
		}}},
	}
}

// certified is Apple with a certificate.
func certified() *api.PushProvider {
	return &api.PushProvider{
		ObjectMeta: metav1.ObjectMeta{Name: "certified"},
		Spec: api.PushProviderSpec{
			APNs:  &api.APNsProvider{Certificate: new(pkcs12("apns")), Topics: []api.AppID{"com.example.mail"}},
			Proxy: &api.ForwardProxy{URL: "http://proxy.example.com:3128"},
		},
	}
}

func pkcs12(name api.ResourceName) api.PKCS12Certificate {
	return api.PKCS12Certificate{
		PFXSecretRef: api.SecretKeyReference{Name: name, Key: "file.pfx"}, PasswordSecretRef: api.SecretKeyReference{Name: name, Key: "password"},
	}
}

// vmwareForAndroid is what must be said of VMware's way to Android phones.
func vmwareForAndroid() *api.PushProvider {
	return &api.PushProvider{
		ObjectMeta: metav1.ObjectMeta{Name: "vmware-android"},
		Spec: api.PushProviderSpec{CNS: &api.CNSProvider{
			Platform: api.CNSPlatformAndroid, SigningCertificate: pkcs12("signing"), MutualTLS: &api.CNSMutualTLS{},
		}},
	}
}

// add adds a push provider to references.
func add(t *testing.T, references *desired.References, provider *api.PushProvider) {
	t.Helper()
	if err := references.AddProvider(provider); err != nil {
		t.Fatal(err)
	}
}
