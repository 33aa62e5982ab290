package reconciletest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	certmanager "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
)

const (
	// Namespace is where all objects are.
	Namespace = "team"
	// limit bounds a reconcile, which takes milliseconds.
	limit = 10 * time.Second
	// passes is how often a reconciler may write before it has to be content.
	passes = 6
	// maxEvents is more than any reconciler sends in that many.
	maxEvents = 100
)

// Stage is an API server that holds some objects.
type Stage struct {
	Client   client.WithWatch
	Recorder *events.FakeRecorder

	writes  int
	secrets []string
	public  string
}

// newScheme knows all kinds that reconcilers read or write. It is made once, because that takes longer than all else.
var newScheme = sync.OnceValues(func() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	return scheme, errors.Join(clientscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme), certmanager.AddToScheme(scheme), gatewayv1.Install(scheme))
})

// Index is a field index of the manager's cache.
type Index struct {
	Object client.Object
	Field  string
	Values client.IndexerFunc
}

// New holds the objects. It returns nil where an API server would refuse one of them for its form.
func New(tb testing.TB, objects []map[string]any, indexes ...Index) *Stage {
	tb.Helper()
	scheme, err := newScheme()
	if err != nil {
		tb.Fatal(err)
	}
	s := &Stage{Recorder: events.NewFakeRecorder(maxEvents)}
	var typed []client.Object
	seen := map[string]bool{}
	for _, object := range objects {
		one := s.admit(scheme, object)
		if one == nil {
			return nil
		}
		key := fmt.Sprintf("%T %s", one, one.GetName())
		if seen[key] {
			return nil
		}
		seen[key] = true
		typed = append(typed, one)
	}
	builder := fake.NewClientBuilder().WithScheme(scheme).WithObjects(typed...).
		WithTypeConverters(managedfields.NewDeducedTypeConverter()). // that of client-go takes long to make
		WithStatusSubresource(&v1alpha1.EnsTenant{}, &v1alpha1.EwsEndpoint{}, &v1alpha1.PushProvider{})
	for _, index := range indexes {
		builder = builder.WithIndex(index.Object, index.Field, index.Values)
	}
	s.Client = builder.WithInterceptorFuncs(s.counting()).Build()
	return s
}

// admit turns a manifest into an object, nil if it is none.
func (s *Stage) admit(scheme *runtime.Scheme, manifest map[string]any) client.Object {
	version, _ := manifest["apiVersion"].(string)
	kind, _ := manifest["kind"].(string)
	empty, err := scheme.New(schema.FromAPIVersionAndKind(version, kind))
	if err != nil {
		return nil
	}
	object, ok := empty.(client.Object)
	if !ok {
		return nil
	}
	values, ok := manifest["stringData"].(map[string]any)
	if manifest["stringData"] != nil && !ok {
		return nil
	}
	rest := clone(manifest).(map[string]any)
	delete(rest, "stringData")
	// By way of JSON, as everything comes to an API server.
	encoded, err := json.Marshal(rest)
	if err != nil || json.Unmarshal(encoded, object) != nil {
		return nil
	}
	object.SetNamespace(Namespace)
	object.SetUID("00000000-0000-0000-0000-000000000001")
	object.SetGeneration(1)
	if object.GetName() == "" || object.GetDeletionTimestamp() != nil && len(object.GetFinalizers()) == 0 {
		return nil
	}
	secret, ok := object.(*corev1.Secret)
	if !ok {
		s.public += string(encoded)
		return object
	}
	secret.Data = map[string][]byte{}
	for key, value := range values {
		text, _ := value.(string)
		secret.Data[key] = []byte(text)
		if !slices.Contains(publicKeys, key) {
			s.secrets = append(s.secrets, word.FindAllString(text, -1)...)
		}
	}
	return object
}

// publicKeys are the values of Secrets that are no secret.
var publicKeys = []string{"tls.crt", "ca.crt"}

// word is what of a secret would be worth something, and is long enough not to be found elsewhere by chance: a line of a
// key in PEM, a token, a password.
var word = regexp.MustCompile(`[A-Za-z0-9+/=_-]{24,}`)

func (s *Stage) counting() interceptor.Funcs {
	return interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, options ...client.CreateOption) error {
			s.writes++
			return c.Create(ctx, o, options...)
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, options ...client.DeleteOption) error {
			s.writes++
			return c.Delete(ctx, o, options...)
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, patch client.Patch, options ...client.PatchOption) error {
			s.writes++
			return c.Patch(ctx, o, patch, options...)
		},
		Apply: func(ctx context.Context, c client.WithWatch, o runtime.ApplyConfiguration, options ...client.ApplyOption) error {
			s.writes++
			return c.Apply(ctx, o, options...)
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, of string, o client.Object, patch client.Patch, options ...client.SubResourcePatchOption) error {
			s.writes++
			return c.SubResource(of).Patch(ctx, o, patch, options...)
		},
	}
}

// Settle reconciles an object until nothing is written any more, and judges what was said. It returns the error of the last
// pass.
func (s *Stage) Settle(tb testing.TB, reconciler reconcile.Reconciler, object client.Object, conditions func() []metav1.Condition) error {
	tb.Helper()
	object.SetNamespace(Namespace)
	key := client.ObjectKeyFromObject(object)
	var err error
	for pass := 0; ; pass++ {
		before, began := s.writes, time.Now()
		ctx, cancel := context.WithTimeout(tb.Context(), limit)
		_, err = reconciler.Reconcile(ctx, reconcile.Request{NamespacedName: key})
		cancel()
		if took := time.Since(began); took > limit {
			tb.Errorf("a reconcile took %v", took)
		}
		if s.writes == before {
			break
		}
		if pass == passes {
			tb.Errorf("it writes again and again (%v)", err)
			break
		}
	}
	if failure := s.Client.Get(tb.Context(), key, object); failure != nil {
		return err // it is gone, or was never there
	}
	if object.GetDeletionTimestamp() == nil {
		judge(tb, conditions())
	}
	s.wantNothingSecret(tb, object)
	return err
}

// reason is what the API server takes for one.
var reason = regexp.MustCompile(`^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$`)

// judge sees to it that there is a word about everything, in the form that the API server takes.
func judge(tb testing.TB, conditions []metav1.Condition) {
	tb.Helper()
	ready := meta.FindStatusCondition(conditions, v1alpha1.ConditionReady)
	if ready == nil {
		tb.Errorf("Ready is not among the conditions: %v", conditions)
		return
	}
	for _, c := range conditions {
		if !reason.MatchString(c.Reason) || c.Status != metav1.ConditionTrue && c.Message == "" {
			tb.Errorf("%s does not say what is wrong: %+v", c.Type, c)
		}
		if c.Status == metav1.ConditionFalse && ready.Status == metav1.ConditionTrue && !slices.Contains(advisory, c.Type) {
			tb.Errorf("Ready is True although %s is False: %s", c.Type, c.Message)
		}
	}
}

// advisory are the conditions that may be False of an object that can be used.
var advisory = []string{v1alpha1.ConditionReachable}

// wantNothingSecret looks through what was said, and through what was made that is no Secret.
func (s *Stage) wantNothingSecret(tb testing.TB, object client.Object) {
	tb.Helper()
	if provider, ok := object.(*v1alpha1.PushProvider); ok && provider.Status.Credential != nil {
		provider.Status.Credential.Identity = "" // is to be told, and comes out of a Secret
	}
	said := []any{object}
	for _, list := range []client.ObjectList{&corev1.ConfigMapList{}, &appsv1.DeploymentList{}} {
		if err := s.Client.List(tb.Context(), list); err != nil {
			tb.Fatal(err)
		}
		said = append(said, list)
	}
	for len(s.Recorder.Events) > 0 {
		said = append(said, <-s.Recorder.Events)
	}
	encoded, err := json.Marshal(said)
	if err != nil {
		tb.Fatal(err)
	}
	for _, secret := range s.secrets {
		if strings.Contains(string(encoded), secret) && !strings.Contains(s.public, secret) {
			tb.Errorf("%q is told, which stands in a Secret:\n%s", secret, encoded)
		}
	}
}
