package enstenant

import (
	"context"
	"encoding/json"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applyapps "k8s.io/client-go/applyconfigurations/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ens-operator/ens-operator/controllers/apply"
	"github.com/ens-operator/ens-operator/controllers/desired"
)

// replicasOwner owns the number of a Deployment's pods between the operator and an autoscaler.
const replicasOwner = apply.FieldOwner + "-replicas"

// releaseReplicas lets go of the number of pods, if an autoscaler is to choose it. An apply that just leaves out a field
// that the operator alone owns would have the API server set it to 1, and end all pods but one: so the number is first
// given to another owner, which never speaks again. The result is the number that a Deployment begins with that is yet to
// be made; nil otherwise.
func (p *pass) releaseReplicas(ctx context.Context) (*int32, error) {
	tenant := client.ObjectKeyFromObject(p.tenant)
	if p.settings.Autoscaling == nil {
		p.released.Delete(tenant)
		return nil, nil
	}
	name := desired.WorkloadName(p.tenant)
	missing, err := p.find(ctx, name, &appsv1.Deployment{})
	if err != nil {
		return nil, err
	}
	if missing {
		p.released.Delete(tenant)
	}
	if _, done := p.released.Load(tenant); done {
		return nil, nil
	}
	deployment := &appsv1.Deployment{}
	// The cache holds no owners of fields.
	err = p.Live.Get(ctx, client.ObjectKey{Namespace: p.tenant.Namespace, Name: name}, deployment)
	if apierrors.IsNotFound(err) {
		return new(p.settings.Autoscaling.MinReplicas), nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the Deployment: %w", err)
	}
	if !desired.Owns(p.tenant)(deployment) {
		return nil, nil // applying it will tell
	}
	if deployment.Spec.Replicas != nil && ownsReplicas(deployment.ManagedFields) {
		// Not forced: if the number has changed in between, it is somebody else's already, and the next try sees that.
		handover := applyapps.Deployment(name, p.tenant.Namespace).
			WithSpec(applyapps.DeploymentSpec().WithReplicas(*deployment.Spec.Replicas))
		if err := p.Client.Apply(ctx, handover, client.FieldOwner(replicasOwner)); err != nil {
			return nil, fmt.Errorf("handing over the number of pods: %w", err)
		}
	}
	p.released.Store(tenant, true)
	return nil, nil
}

// ownsReplicas reports whether the operator owns the number of pods.
func ownsReplicas(owners []metav1.ManagedFieldsEntry) bool {
	for _, owner := range owners {
		if owner.Manager != apply.FieldOwner || owner.Operation != metav1.ManagedFieldsOperationApply || owner.FieldsV1 == nil {
			continue
		}
		var fields struct {
			Spec struct {
				Replicas *struct{} `json:"f:replicas"`
			} `json:"f:spec"`
		}
		if json.Unmarshal(owner.FieldsV1.GetRawBytes(), &fields) == nil && fields.Spec.Replicas != nil {
			return true
		}
	}
	return false
}
