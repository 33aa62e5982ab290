package foreign

import (
	"context"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// Waker finds the objects to reconcile when something that they refer to changes.
type Waker struct {
	reader client.Reader
	list   func() client.ObjectList
	index  string
}

// Wake makes a Waker for the kind that list makes a list of, which is indexed by what it refers to.
func Wake(reader client.Reader, list func() client.ObjectList, index string) Waker {
	return Waker{reader: reader, list: list, index: index}
}

// On handles events of objects whose name becomes the index's value by value.
func (w Waker) On(value func(name string) string) handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, changed client.Object) []reconcile.Request {
		list := w.list()
		err := w.reader.List(ctx, list, client.InNamespace(changed.GetNamespace()),
			client.MatchingFields{w.index: value(changed.GetName())})
		if err != nil {
			log.FromContext(ctx).Error(err, "Failed to find who refers to a changed object", "name", changed.GetName())
			return nil
		}
		var requests []reconcile.Request
		// The error can only be that of an object that is no list.
		_ = meta.EachListItem(list, func(item runtime.Object) error {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(item.(client.Object))})
			return nil
		})
		return requests
	})
}
