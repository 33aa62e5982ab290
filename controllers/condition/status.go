package condition

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
)

// Statuses reads and writes the objects of a kind whose statuses a reconciler keeps. It remembers what it has written:
// compared to an older status, which the cache may still have, a change can look like none, and would not be written. The
// zero value is ready, and safe for concurrent use.
type Statuses struct {
	versions sync.Map // by types.NamespacedName: the version after the last write
}

// Get reads an object from the cache, or past it if the cache has yet to hear of the last Patch.
func (s *Statuses) Get(ctx context.Context, cache, live client.Reader, key client.ObjectKey, object client.Object) error {
	err := cache.Get(ctx, key, object)
	if apierrors.IsNotFound(err) {
		s.versions.Delete(key)
	}
	if err != nil {
		return err
	}
	written, found := s.versions.Load(key)
	if !found {
		return nil
	}
	order, err := resourceversion.CompareResourceVersion(object.GetResourceVersion(), written.(string))
	if err == nil && order >= 0 {
		s.versions.Delete(key) // the cache never goes back
		return nil
	}
	return live.Get(ctx, key, object)
}

// Patch writes what differs between the status of before and after, and nothing if they are alike. No field of the spec is
// ever part of the patch.
func (s *Statuses) Patch(ctx context.Context, c client.Client, before, after client.Object) error {
	if equality.Semantic.DeepEqual(before, after) { // as nearly always, and far quicker than to make a patch
		return nil
	}
	patch := client.MergeFrom(before)
	data, err := patch.Data(after)
	if err != nil {
		return fmt.Errorf("comparing the status: %w", err)
	}
	if string(data) == "{}" {
		return nil
	}
	if err := c.Status().Patch(ctx, after, patch); err != nil {
		return fmt.Errorf("writing the status: %w", err)
	}
	s.versions.Store(client.ObjectKeyFromObject(after), after.GetResourceVersion())
	return nil
}

// action is what the operator was doing when an Event came about.
const action = "Reconcile"

// Announce tells of a change of Ready as an Event: that all is well, or what is wrong. It says nothing while things
// are under way or when nothing changed.
func Announce(recorder events.EventRecorder, object client.Object, before, after []metav1.Condition) {
	was, is := meta.FindStatusCondition(before, v1alpha1.ConditionReady), meta.FindStatusCondition(after, v1alpha1.ConditionReady)
	if is == nil || is.Status == metav1.ConditionUnknown {
		return
	}
	if was != nil && was.Status == is.Status && was.Reason == is.Reason {
		return
	}
	kind := corev1.EventTypeNormal
	if is.Status == metav1.ConditionFalse {
		kind = corev1.EventTypeWarning
	}
	Tell(recorder, object, kind, is)
}

// Tell makes an Event of what a condition says, of the kind Normal or Warning.
func Tell(recorder events.EventRecorder, object client.Object, kind string, is *metav1.Condition) {
	recorder.Eventf(object, nil, kind, is.Reason, action, "%s", is.Message)
}
