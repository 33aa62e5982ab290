package desired

import (
	"fmt"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/egress"
)

// AddProvider adds a push provider as its object describes it.
func (r *References) AddProvider(provider *v1alpha1.PushProvider) error {
	entry, limits := config.PushProvider{Name: provider.Name}, orZero(provider.Spec.Limits)
	entry.TimeoutSeconds, entry.MaxConcurrentPushes = limits.TimeoutSeconds, limits.MaxConcurrentPushes
	if apns := provider.Spec.APNs; apns != nil {
		entry.APNs = &config.APNs{
			TeamID: string(apns.TeamID), KeyID: string(apns.KeyID), Certificate: apns.Certificate != nil, Topics: appIDs(apns.Topics),
			Environment: environment(apns.Environment), URL: string(apns.URL),
		}
		if apns.KeySecretRef != nil {
			r.Mounts = append(r.Mounts, secretMount(providerFile(provider.Name, config.APNsKeyFile), *apns.KeySecretRef))
		}
		if apns.Certificate != nil {
			r.mountPKCS12(provider.Name, config.APNsCertificateFile, config.APNsCertificatePasswordFile, *apns.Certificate)
		}
	}
	if fcm := provider.Spec.FCM; fcm != nil {
		entry.FCM = &config.FCM{
			ProjectID: fcm.ProjectID, AppIDs: appIDs(fcm.AppIDs), URL: string(fcm.URL), TokenURL: string(fcm.TokenURL),
		}
		r.Mounts = append(r.Mounts, secretMount(providerFile(provider.Name, config.FCMServiceAccountFile), fcm.ServiceAccountSecretRef))
	}
	if sns := provider.Spec.SNS; sns != nil {
		entry.SNS = r.addSNS(provider.Name, *sns)
	}
	if cns := provider.Spec.CNS; cns != nil {
		var err error
		if entry.CNS, err = r.addCNS(provider.Name, *cns); err != nil {
			return fmt.Errorf("a fingerprint of PushProvider %s: %w", provider.Name, err)
		}
	}
	if bundle := provider.Spec.CABundle; bundle != nil {
		entry.CABundle = true
		r.Mounts = append(r.Mounts, bundleMount(providerFile(provider.Name, config.CABundleFile), *bundle))
	}
	entry.Proxy = r.addProxy(provider.Name, provider.Spec.Proxy)
	r.Providers = append(r.Providers, entry)
	return nil
}

// amazonAudience is whom Amazon wants a web identity's token to be meant for.
const amazonAudience = "sts.amazonaws.com"

func (r *References) addSNS(name string, sns v1alpha1.SNSProvider) *config.SNS {
	entry := &config.SNS{
		ApplicationARN: string(sns.PlatformApplicationARN), AppIDs: appIDs(sns.AppIDs), URL: string(sns.URL), STSURL: string(sns.STSURL),
	}
	if key := sns.Credentials.AccessKey; key != nil {
		r.Mounts = append(r.Mounts,
			secretMount(providerFile(name, config.SNSAccessKeyIDFile), key.AccessKeyIDSecretRef),
			secretMount(providerFile(name, config.SNSSecretAccessKeyFile), key.SecretAccessKeySecretRef))
	}
	if identity := sns.Credentials.WebIdentity; identity != nil {
		entry.RoleARN = identity.RoleARN
		r.Mounts = append(r.Mounts, Mount{Path: providerFile(name, config.SNSWebIdentityTokenFile), TokenAudience: amazonAudience})
	}
	return entry
}

func (r *References) addCNS(name string, cns v1alpha1.CNSProvider) (*config.CNS, error) {
	entry := &config.CNS{Platform: config.CNSPlatform(cns.Platform), AppIDs: appIDs(cns.AppIDs), URL: string(cns.URL)}
	if cns.Platform != v1alpha1.CNSPlatformAndroid {
		entry.Environment = environment(cns.Environment)
	}
	for _, text := range cns.PublicKeySHA256 {
		pin, err := egress.ParseFingerprint(string(text))
		if err != nil {
			return nil, err
		}
		entry.PublicKeySHA256 = append(entry.PublicKeySHA256, pin)
	}
	r.mountPKCS12(name, config.CNSSigningFile, config.CNSSigningPasswordFile, cns.SigningCertificate)
	if mutual := cns.MutualTLS; mutual != nil {
		entry.ClientCertificate = config.CNSClientSigning
		if mutual.Certificate != nil {
			entry.ClientCertificate = config.CNSClientOwn
			r.mountPKCS12(name, config.CNSClientFile, config.CNSClientPasswordFile, *mutual.Certificate)
		}
	}
	return entry, nil
}

// addProxy adds the proxy of a provider, nil for none.
func (r *References) addProxy(name string, proxy *v1alpha1.ForwardProxy) *config.ForwardProxy {
	if proxy == nil {
		return nil
	}
	if credentials := proxy.Credentials; credentials != nil {
		r.Mounts = append(r.Mounts,
			secretMount(providerFile(name, config.ProxyUsernameFile), credentials.UsernameSecretRef),
			secretMount(providerFile(name, config.ProxyPasswordFile), credentials.PasswordSecretRef))
	}
	return &config.ForwardProxy{URL: string(proxy.URL), Authenticate: proxy.Credentials != nil}
}

func (r *References) mountPKCS12(provider, file, passwordFile string, certificate v1alpha1.PKCS12Certificate) {
	r.Mounts = append(r.Mounts,
		secretMount(providerFile(provider, file), certificate.PFXSecretRef),
		secretMount(providerFile(provider, passwordFile), certificate.PasswordSecretRef))
}

// environment is where an app's tokens come from, in the runtime's words.
func environment(e v1alpha1.APNsEnvironment) config.PushEnvironment {
	if e == v1alpha1.APNsSandbox {
		return config.PushSandbox
	}
	return config.PushProduction
}

func appIDs(ids []v1alpha1.AppID) []string {
	var texts []string
	for _, id := range ids {
		texts = append(texts, string(id))
	}
	return texts
}
