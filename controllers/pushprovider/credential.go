package pushprovider

import (
	"context"
	"errors"
	"fmt"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/condition"
	"github.com/ens-operator/ens-operator/controllers/credentials"
	"github.com/ens-operator/ens-operator/controllers/foreign"
)

// value is one that a credential consists of, in a Secret.
type value struct {
	ref v1alpha1.SecretKeyReference
	// judge says why the value cannot be used, in words that hold nothing of it. It notes what may be told.
	judge func(data []byte) error
}

// credentialOf returns what may be told of the provider's credential, and the values that it consists of. To judge a
// value completes the former.
func credentialOf(spec v1alpha1.PushProviderSpec) (*v1alpha1.PushCredential, []value) {
	told := &v1alpha1.PushCredential{}
	switch {
	case spec.APNs != nil:
		told.Identity = string(spec.APNs.KeyID)
		return told, []value{{spec.APNs.KeySecretRef, judgeAPNsKey(told)}}
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
	}
	return told, nil
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
	return condition.OK(v1alpha1.ReasonResolved, "Everything that is referred to is there"), told, nil
}
