package pushprovider

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/condition"
	"github.com/ens-operator/ens-operator/controllers/credentials"
	"github.com/ens-operator/ens-operator/controllers/foreign"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

// value is one that a credential consists of, in a Secret.
type value struct {
	ref v1alpha1.SecretKeyReference
	// judge says why the value cannot be used, in words that hold nothing of it. It notes what may be told.
	judge func(data []byte) error
}

// credentialOf returns what may be told of the provider's credential, and the values that it and what the proxy wants
// consist of. To judge a value completes the former.
func credentialOf(spec v1alpha1.PushProviderSpec) (*v1alpha1.PushCredential, []value) {
	told, values := ofService(spec)
	if spec.Proxy != nil && spec.Proxy.Credentials != nil {
		values = append(values,
			value{spec.Proxy.Credentials.UsernameSecretRef, notEmpty}, value{spec.Proxy.Credentials.PasswordSecretRef, notEmpty})
	}
	return told, values
}

func ofService(spec v1alpha1.PushProviderSpec) (*v1alpha1.PushCredential, []value) {
	told := &v1alpha1.PushCredential{}
	switch {
	case spec.APNs != nil && spec.APNs.Certificate != nil:
		return told, pkcs12Values(*spec.APNs.Certificate, judgeAPNsCertificate(told, *spec.APNs))
	case spec.APNs != nil && spec.APNs.KeySecretRef != nil:
		told.Identity = string(spec.APNs.KeyID)
		return told, []value{{*spec.APNs.KeySecretRef, judgeAPNsKey(told)}}
	case spec.FCM != nil:
		return told, []value{{spec.FCM.ServiceAccountSecretRef, judgeServiceAccount(told, spec.FCM.ProjectID)}}
	case spec.SNS != nil && spec.SNS.Credentials.AccessKey != nil:
		key := spec.SNS.Credentials.AccessKey
		return told, []value{
			{key.AccessKeyIDSecretRef, judgeAccessKeyID(told)},
			{key.SecretAccessKeySecretRef, credentials.CheckSecretAccessKey},
		}
	case spec.SNS != nil && spec.SNS.Credentials.WebIdentity != nil:
		told.Identity = spec.SNS.Credentials.WebIdentity.RoleARN
	case spec.CNS != nil:
		return told, cnsValues(told, *spec.CNS)
	}
	return told, nil
}

// cnsValues are the certificate that signs and the one for mutual TLS.
func cnsValues(told *v1alpha1.PushCredential, cns v1alpha1.CNSProvider) []value {
	values := pkcs12Values(cns.SigningCertificate, func(signing credentials.ClientCertificate) error {
		tell(told, signing)
		return nil
	})
	if cns.MutualTLS != nil && cns.MutualTLS.Certificate != nil {
		values = append(values, pkcs12Values(*cns.MutualTLS.Certificate, func(client credentials.ClientCertificate) error {
			if client.NotAfter.Before(told.NotAfter.Time) {
				told.NotAfter = new(metav1.NewTime(client.NotAfter))
			}
			return nil
		})...)
	}
	return values
}

// tell tells of a certificate what may be told.
func tell(told *v1alpha1.PushCredential, certificate credentials.ClientCertificate) {
	told.Identity, told.PublicKeySHA256 = truncate(certificate.CommonName), certificate.PublicKeySHA256
	told.NotAfter = new(metav1.NewTime(certificate.NotAfter))
}

// judgeAPNsCertificate judges whether a certificate is good for what is to be served.
func judgeAPNsCertificate(told *v1alpha1.PushCredential, apns v1alpha1.APNsProvider) func(credentials.ClientCertificate) error {
	return func(certificate credentials.ClientCertificate) error {
		topics := make([]string, len(apns.Topics))
		for i, topic := range apns.Topics {
			topics[i] = string(topic)
		}
		environment := config.PushProduction
		if apns.Environment == v1alpha1.APNsSandbox {
			environment = config.PushSandbox
		}
		tell(told, certificate)
		return certificate.ServesAPNs(topics, environment)
	}
}

// pkcs12Values are a PKCS #12 file's password and the file, which is judged further once it is open.
func pkcs12Values(certificate v1alpha1.PKCS12Certificate, judge func(credentials.ClientCertificate) error) []value {
	var password secret.Value
	return []value{
		{certificate.PasswordSecretRef, func(data []byte) error {
			// The end of the line that editors put there is no part of it, as in the runtime.
			password = secret.New(bytes.Clone(bytes.TrimRight(data, "\r\n")))
			return nil
		}},
		{certificate.PFXSecretRef, func(data []byte) error {
			defer password.Wipe()
			opened, err := credentials.ParsePKCS12(data, password)
			if err != nil {
				return fmt.Errorf("want a PKCS #12 file (.pfx) with one private key and its certificate: %w", err)
			}
			return judge(opened)
		}},
	}
}

func notEmpty(data []byte) error {
	if len(bytes.TrimSpace(data)) == 0 {
		return errors.New("it is empty")
	}
	return nil
}

// maxIdentity is the longest identity that the API takes, in characters.
const maxIdentity = 320

func truncate(text string) string {
	if runes := []rune(text); len(runes) > maxIdentity {
		return string(runes[:maxIdentity])
	}
	return text
}

func judgeAPNsKey(told *v1alpha1.PushCredential) func([]byte) error {
	return func(data []byte) error {
		key, err := credentials.ParseAPNsKey(data)
		if err != nil {
			return fmt.Errorf("want the signing key as Apple gives it out (.p8): %w", err)
		}
		told.PublicKeySHA256 = key.PublicKeySHA256
		return nil
	}
}

func judgeServiceAccount(told *v1alpha1.PushCredential, projectID string) func([]byte) error {
	return func(data []byte) error {
		account, err := credentials.ParseServiceAccount(data)
		if err != nil {
			return fmt.Errorf("want the key file of a service account of Google: %w", err)
		}
		if account.ProjectID != projectID {
			return errors.New("the service account is another project's than spec.fcm.projectID")
		}
		told.Identity, told.PublicKeySHA256 = account.ClientEmail, account.PublicKeySHA256
		return nil
	}
}

func judgeAccessKeyID(told *v1alpha1.PushCredential) func([]byte) error {
	return func(data []byte) error {
		id, err := credentials.ParseAccessKeyID(data)
		told.Identity = id
		return err
	}
}

// judgeCredential reads the provider's credential and judges it.
func (r *Reconciler) judgeCredential(ctx context.Context, provider *v1alpha1.PushProvider) (condition.Finding, *v1alpha1.PushCredential, error) {
	told, values := credentialOf(provider.Spec)
	for _, value := range values {
		data, err := r.Foreign.SecretKey(ctx, provider.Namespace, value.ref)
		if missing, ok := errors.AsType[*foreign.MissingError](err); ok {
			return foreign.Missing(missing), nil, nil
		}
		if err != nil {
			return condition.Finding{}, nil, err
		}
		err = value.judge(data)
		clear(data)
		if err != nil {
			return condition.Stuck(v1alpha1.ReasonInvalid,
				fmt.Sprintf("The value %s of Secret %s cannot be used: %v", value.ref.Key, value.ref.Name, err)), nil, nil
		}
	}
	if told.NotAfter != nil && !r.Clock.Now().Before(told.NotAfter.Time) {
		return condition.Stuck(v1alpha1.ReasonExpired, "A certificate that the provider is signed in to with has expired: replace it"), told, nil
	}
	return condition.OK(v1alpha1.ReasonResolved, "Everything that is referred to is there"), told, nil
}
