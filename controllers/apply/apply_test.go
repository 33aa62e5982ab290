package apply_test

import (
	"errors"
	"net/http"
	"sync/atomic"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	appsac "k8s.io/client-go/applyconfigurations/apps/v1"
	coreac "k8s.io/client-go/applyconfigurations/core/v1"
	metaac "k8s.io/client-go/applyconfigurations/meta/v1"
	networkingac "k8s.io/client-go/applyconfigurations/networking/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ens-operator/ens-operator/controllers/apply"
	"github.com/ens-operator/ens-operator/hack/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// counted passes requests on and counts those that apply.
type counted struct {
	next    http.RoundTripper
	patches atomic.Int64
}

func (c *counted) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodPatch {
		c.patches.Add(1)
	}
	return c.next.RoundTrip(r)
}

// stage is a namespace and an operator's way to it.
type stage struct {
	*testing.T
	namespace string
	client    client.Client
	sent      *counted
}

func newStage(t *testing.T) *stage {
	t.Helper()
	kube := testenv.Kube(t)
	s := &stage{T: t, namespace: kube.NewNamespace(t), sent: &counted{}}
	config := kube.Config()
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		s.sent.next = next
		return s.sent
	})
	var err error
	if s.client, err = client.New(config, client.Options{}); err != nil {
		t.Fatal(err)
	}
	return s
}

// applier is that of an operator that has just begun.
func (s *stage) applier() *apply.Applier { return &apply.Applier{Client: s.client, Live: s.client} }

func anybodys(metav1.Object) bool { return true }

// patches is how many requests an apply takes.
func (s *stage) patches(a *apply.Applier, desired apply.Configuration, current client.Object) int64 {
	s.Helper()
	before := s.sent.patches.Load()
	if err := a.Apply(s.Context(), desired, current, anybodys); err != nil {
		s.Fatal(err)
	}
	return s.sent.patches.Load() - before
}

// change has somebody else change an object.
func (s *stage) change(object client.Object, name string, edit func()) {
	s.Helper()
	if err := s.client.Get(s.Context(), client.ObjectKey{Namespace: s.namespace, Name: name}, object); err != nil {
		s.Fatal(err)
	}
	edit()
	if err := s.client.Update(s.Context(), object); err != nil {
		s.Fatal(err)
	}
}

const app = "app"

func deployment(namespace string) *appsac.DeploymentApplyConfiguration {
	labels := map[string]string{app: "acme"}
	return appsac.Deployment("acme", namespace).
		WithLabels(labels).
		WithSpec(appsac.DeploymentSpec().
			WithReplicas(2).
			WithSelector(metaac.LabelSelector().WithMatchLabels(labels)).
			WithTemplate(coreac.PodTemplateSpec().
				WithLabels(labels).
				WithSpec(coreac.PodSpec().
					WithAutomountServiceAccountToken(false).
					WithTolerations(coreac.Toleration().WithKey("spot").WithOperator(corev1.TolerationOpExists)).
					WithContainers(coreac.Container().
						WithName("runtime").
						WithImage("registry.example.com/ens-runtime:1").
						WithArgs("--config", "/etc/ens/config.yaml").
						WithEnv(coreac.EnvVar().WithName("A").WithValue("1"), coreac.EnvVar().WithName("B").WithValue("")).
						WithResources(coreac.ResourceRequirements().
							WithRequests(corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1000m")})).
						WithPorts(coreac.ContainerPort().WithName("https").WithContainerPort(8443))))))
}

func TestWhatIsThereIsNotAppliedAgain(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a := s.applier()
	if n := s.patches(a, deployment(s.namespace), &appsv1.Deployment{}); n != 1 {
		t.Fatalf("a new object took %d requests", n)
	}
	if n := s.patches(a, deployment(s.namespace), &appsv1.Deployment{}); n != 0 {
		t.Errorf("by the same operator it was applied again %d times", n)
	}
	if n := s.patches(s.applier(), deployment(s.namespace), &appsv1.Deployment{}); n != 0 {
		t.Errorf("by one that has just begun it was applied again %d times", n)
	}
	current := &appsv1.Deployment{}
	if err := s.client.Get(t.Context(), client.ObjectKey{Namespace: s.namespace, Name: "acme"}, current); err != nil {
		t.Fatal(err)
	}
	current.Status.ObservedGeneration = 1
	if err := s.client.Status().Update(t.Context(), current); err != nil {
		t.Fatal(err)
	}
	if n := s.patches(a, deployment(s.namespace), &appsv1.Deployment{}); n != 0 {
		t.Errorf("after a change of its status it was applied again %d times", n)
	}
	s.change(current, "acme", func() { current.Annotations["example.com/theirs"] = "kept" })
	if n := s.patches(s.applier(), deployment(s.namespace), &appsv1.Deployment{}); n != 0 {
		t.Errorf("with something of somebody else's on it, it was applied again %d times", n)
	}
	if generation := a.Generation(appsv1.SchemeGroupVersion.WithKind("Deployment"), client.ObjectKeyFromObject(current)); generation != 1 {
		t.Errorf("its generation is taken for %d", generation)
	}
}

func TestAHandEditIsRepairedByAnOperatorThatHasJustBegun(t *testing.T) {
	t.Parallel()
	container := func(d *appsv1.Deployment) *corev1.Container { return &d.Spec.Template.Spec.Containers[0] }
	for name, edit := range map[string]func(*appsv1.Deployment){
		"another number":                 func(d *appsv1.Deployment) { d.Spec.Replicas = new(int32(5)) },
		"another image":                  func(d *appsv1.Deployment) { container(d).Image = "evil" },
		"an argument more":               func(d *appsv1.Deployment) { container(d).Args = append(container(d).Args, "--insecure") },
		"a variable with another value":  func(d *appsv1.Deployment) { container(d).Env[0].Value = "2" },
		"a variable that was taken away": func(d *appsv1.Deployment) { container(d).Env = container(d).Env[:1] },
		"a value where there was none":   func(d *appsv1.Deployment) { container(d).Env[1].Value = "x" },
		"a list that was emptied":        func(d *appsv1.Deployment) { d.Spec.Template.Spec.Tolerations = nil },
		"a label that was taken away":    func(d *appsv1.Deployment) { d.Labels = nil },
		"another quantity": func(d *appsv1.Deployment) {
			container(d).Resources.Requests[corev1.ResourceCPU] = resource.MustParse("2")
		},
		"a switch that was turned":           func(d *appsv1.Deployment) { d.Spec.Template.Spec.AutomountServiceAccountToken = new(true) },
		"the note of what was applied taken": func(d *appsv1.Deployment) { d.Annotations = nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			s.patches(s.applier(), deployment(s.namespace), &appsv1.Deployment{})
			current := &appsv1.Deployment{}
			s.change(current, "acme", func() { edit(current) })
			a := s.applier()
			if n := s.patches(a, deployment(s.namespace), &appsv1.Deployment{}); n != 1 {
				t.Errorf("it took %d requests", n)
			}
			if n := s.patches(s.applier(), deployment(s.namespace), &appsv1.Deployment{}); n != 0 {
				t.Errorf("it was not repaired: an operator after it sees reason to apply")
			}
		})
	}
}

func TestWhatIsNoLongerWantedIsTakenAwayByAnOperatorThatHasJustBegun(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.patches(s.applier(), deployment(s.namespace).WithAnnotations(map[string]string{"example.com/old": "x"}), &appsv1.Deployment{})
	current := &appsv1.Deployment{}
	if n := s.patches(s.applier(), deployment(s.namespace), current); n != 1 {
		t.Errorf("it took %d requests", n)
	}
	if err := s.client.Get(t.Context(), client.ObjectKey{Namespace: s.namespace, Name: "acme"}, current); err != nil {
		t.Fatal(err)
	}
	if _, found := current.Annotations["example.com/old"]; found {
		t.Error("it is still there")
	}
}

func TestASecretIsComparedWithoutANoteOfItsValues(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	secret := func(value string) *coreac.SecretApplyConfiguration {
		return coreac.Secret("acme", s.namespace).WithData(map[string][]byte{"url": []byte(value)})
	}
	s.patches(s.applier(), secret("one"), &corev1.Secret{})
	if n := s.patches(s.applier(), secret("one"), &corev1.Secret{}); n != 0 {
		t.Errorf("it was applied again %d times", n)
	}
	note := func() string {
		t.Helper()
		current := &corev1.Secret{}
		if err := s.client.Get(t.Context(), client.ObjectKey{Namespace: s.namespace, Name: "acme"}, current); err != nil {
			t.Fatal(err)
		}
		return current.Annotations[apply.AnnotationApplied]
	}
	before := note()
	if n := s.patches(s.applier(), secret("two"), &corev1.Secret{}); n != 1 {
		t.Errorf("another value took %d requests", n)
	}
	if note() != before || before == "" {
		t.Error("the note tells values apart")
	}
	current := &corev1.Secret{}
	s.change(current, "acme", func() { current.Data["url"] = []byte("spoilt") })
	if n := s.patches(s.applier(), secret("two"), &corev1.Secret{}); n != 1 {
		t.Errorf("a spoilt value took %d requests", n)
	}
}

func TestAListThatSomebodyHasAddedToIsAppliedAgain(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	policy := func() *networkingac.NetworkPolicyApplyConfiguration {
		return networkingac.NetworkPolicy("acme", s.namespace).WithSpec(networkingac.NetworkPolicySpec().
			WithPodSelector(metaac.LabelSelector()).
			WithPolicyTypes(networkingv1.PolicyTypeIngress).
			WithIngress(networkingac.NetworkPolicyIngressRule().WithPorts(networkingac.NetworkPolicyPort().WithPort(intstr.FromInt32(8443)))))
	}
	s.patches(s.applier(), policy(), &networkingv1.NetworkPolicy{})
	current := &networkingv1.NetworkPolicy{}
	s.change(current, "acme", func() { current.Spec.Ingress = append(current.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{}) })
	s.patches(s.applier(), policy(), current)
	if err := s.client.Get(t.Context(), client.ObjectKey{Namespace: s.namespace, Name: "acme"}, current); err != nil {
		t.Fatal(err)
	}
	if len(current.Spec.Ingress) != 1 {
		t.Error("a rule that lets everybody in has stayed")
	}
}

func TestNothingOfSomebodyElsesIsTakenOver(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.patches(s.applier(), deployment(s.namespace), &appsv1.Deployment{})
	err := s.applier().Apply(t.Context(), deployment(s.namespace), &appsv1.Deployment{}, func(metav1.Object) bool { return false })
	if !errors.Is(err, apply.ErrNotOwned) {
		t.Errorf("the error is %v", err)
	}
}
