package controllers_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-logr/logr"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ens-operator/ens-operator/controllers/metricsauth"
)

func TestMetricsAreForThoseWhoMayReadThem(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	config, err := limitedUser(t.Context(), s.kube, s.clients)
	if err != nil {
		t.Fatal(err)
	}
	transport, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	filter, err := metricsauth.Filter(config, transport)
	if err != nil {
		t.Fatal(err)
	}
	handler, err := filter(logr.Discard(), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	if err != nil {
		t.Fatal(err)
	}
	token := func(name string) string {
		account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}
		s.create(account)
		request := &authenticationv1.TokenRequest{}
		if err := s.clients.SubResource("token").Create(t.Context(), account, request); err != nil {
			t.Fatal(err)
		}
		return request.Status.Token
	}
	reader, stranger := token("prometheus"), token("stranger")
	for _, object := range readManifests("config", "rbac", "metrics_reader.yaml") {
		if err := s.clients.Create(t.Context(), object); client.IgnoreAlreadyExists(err) != nil {
			t.Fatal(err)
		}
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "metrics-" + s.namespace},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "ens-operator-metrics-reader"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: s.namespace, Name: "prometheus"}},
	}
	if err := s.clients.Create(t.Context(), binding); err != nil {
		t.Fatal(err)
	}
	ask := func(authorization string) int {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
		request.Header.Set("Authorization", authorization)
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, request)
		return answer.Code
	}
	s.eventually("the binding taking effect", func() error {
		// Another token each time: answers are remembered.
		if got := ask("Bearer " + reader); got != http.StatusOK {
			request := &authenticationv1.TokenRequest{}
			account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "prometheus"}}
			if err := s.clients.SubResource("token").Create(t.Context(), account, request); err != nil {
				return err
			}
			reader = request.Status.Token
			return errNotYet(http.StatusText(got))
		}
		return nil
	})
	for who, c := range map[string]struct {
		authorization string
		want          int
	}{
		"who may":            {"Bearer " + reader, http.StatusOK},
		"who may, once more": {"bearer " + reader, http.StatusOK},
		"who may not":        {"Bearer " + stranger, http.StatusForbidden},
		"nobody":             {"", http.StatusUnauthorized},
		"a password":         {"Basic eDp5", http.StatusUnauthorized},
		"a forged token":     {"Bearer x.y.z", http.StatusUnauthorized},
	} {
		if got := ask(c.authorization); got != c.want {
			t.Errorf("%s: %d, want %d", who, got, c.want)
		}
	}
}
