package foreign

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/condition"
	"github.com/ens-operator/ens-operator/controllers/credentials"
)

// BundleFinding is what was found out about a bundle of certificate authorities.
type BundleFinding struct {
	condition.Finding
	Status *v1alpha1.BundleStatus
	// LookAgain is when the finding may change by itself, 0 for never.
	LookAgain time.Duration
}

// JudgeBundle reads and judges the bundle; nil is fine. Its error is for what says nothing about the bundle, such as
// an API server that does not answer.
func (r Reader) JudgeBundle(ctx context.Context, namespace string, bundle *v1alpha1.CertificateBundle, now time.Time) (BundleFinding, error) {
	if bundle == nil {
		return BundleFinding{Finding: condition.OK(v1alpha1.ReasonResolved, "Nothing is referred to")}, nil
	}
	if bundle.Secret == nil && bundle.ConfigMap == nil { // an older CRD may let it through
		return BundleFinding{Finding: condition.Stuck(v1alpha1.ReasonInvalid, "The bundle of certificate authorities names neither a Secret nor a ConfigMap: name one")}, nil
	}
	data, err := r.Bundle(ctx, namespace, *bundle)
	if missing, ok := errors.AsType[*MissingError](err); ok {
		return BundleFinding{Finding: Missing(missing)}, nil
	}
	if err != nil {
		return BundleFinding{}, err
	}
	found, err := credentials.ParseBundle(data)
	if err != nil {
		return BundleFinding{Finding: condition.Stuck(v1alpha1.ReasonInvalid, fmt.Sprintf(
			"%s cannot be used as a bundle of certificate authorities: %v", describe(*bundle), err))}, nil
	}
	status := &v1alpha1.BundleStatus{Certificates: int32(found.Certificates), NotAfter: new(metav1.NewTime(found.NotAfter))}
	if !now.Before(found.LastNotAfter) {
		return BundleFinding{Status: status, Finding: condition.Stuck(v1alpha1.ReasonExpired, fmt.Sprintf(
			"%s holds no certificate that has not expired: replace them", describe(*bundle)))}, nil
	}
	return BundleFinding{
		Finding:   condition.OK(v1alpha1.ReasonResolved, "Everything that is referred to is there"),
		Status:    status,
		LookAgain: found.LastNotAfter.Sub(now),
	}, nil
}

// Missing is the finding that something is not there. It is not stalled: what is missing may come with the next object
// that is applied.
func Missing(missing *MissingError) condition.Finding {
	return condition.Failed(missing.Reason(), missing.Error())
}

func describe(bundle v1alpha1.CertificateBundle) string {
	if bundle.Secret != nil {
		return fmt.Sprintf("The value %s of Secret %s", bundle.Secret.Key, bundle.Secret.Name)
	}
	return fmt.Sprintf("The value %s of ConfigMap %s", bundle.ConfigMap.Key, bundle.ConfigMap.Name)
}
