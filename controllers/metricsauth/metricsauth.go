// Package metricsauth lets those read the operator's metrics whom the cluster's RBAC allows to: the bearer token is
// checked by a TokenReview, and its owner's right to get the path by a SubjectAccessReview.
package metricsauth

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	metrics "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

// +kubebuilder:rbac:groups=authentication.k8s.io,resources=tokenreviews,verbs=create
// +kubebuilder:rbac:groups=authorization.k8s.io,resources=subjectaccessreviews,verbs=create

const (
	// reviewTimeout is below the 10 s after which Prometheus gives up.
	reviewTimeout = 5 * time.Second
	// remember is how long an answer of the API server counts. Prometheus comes twice a minute.
	remember = time.Minute
	// maxRemembered bounds what is remembered; there are few who read metrics.
	maxRemembered = 256
)

// Filter is a metrics server's FilterProvider.
func Filter(config *rest.Config, client *http.Client) (metrics.Filter, error) {
	clients, err := kubernetes.NewForConfigAndClient(config, client)
	if err != nil {
		return nil, fmt.Errorf("preparing to check who may read metrics: %w", err)
	}
	g := &guard{clients: clients, verdicts: map[[sha256.Size]byte]verdict{}}
	return func(log logr.Logger, next http.Handler) (http.Handler, error) {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { g.serve(log, next, w, r) }), nil
	}, nil
}

type guard struct {
	clients kubernetes.Interface

	mutex    sync.Mutex
	verdicts map[[sha256.Size]byte]verdict
}

// verdict is the HTTP status for a token and path, and until when it counts.
type verdict struct {
	status int
	until  time.Time
}

func (g *guard) serve(log logr.Logger, next http.Handler, w http.ResponseWriter, r *http.Request) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		http.Error(w, "a bearer token is needed", http.StatusUnauthorized)
		return
	}
	status, err := g.judge(r.Context(), token, r.URL.Path)
	if err != nil {
		log.Error(err, "Failed to check who reads metrics")
		http.Error(w, "the API server could not be asked", http.StatusServiceUnavailable)
		return
	}
	if status != http.StatusOK {
		http.Error(w, http.StatusText(status), status)
		return
	}
	next.ServeHTTP(w, r)
}

func (g *guard) judge(ctx context.Context, token, path string) (int, error) {
	key := sha256.Sum256([]byte(token + "\n" + path))
	now := time.Now()
	g.mutex.Lock()
	known, found := g.verdicts[key]
	g.mutex.Unlock()
	if found && now.Before(known.until) {
		return known.status, nil
	}
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	status, err := g.review(ctx, token, path)
	if err != nil {
		return 0, err
	}
	g.mutex.Lock()
	defer g.mutex.Unlock()
	if len(g.verdicts) >= maxRemembered {
		clear(g.verdicts)
	}
	g.verdicts[key] = verdict{status, now.Add(remember)}
	return status, nil
}

func (g *guard) review(ctx context.Context, token, path string) (int, error) {
	who, err := g.clients.AuthenticationV1().TokenReviews().Create(ctx,
		&authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}, metav1.CreateOptions{})
	if err != nil {
		return 0, fmt.Errorf("reviewing a token: %w", err)
	}
	if !who.Status.Authenticated {
		return http.StatusUnauthorized, nil
	}
	extra := map[string]authorizationv1.ExtraValue{}
	for name, values := range who.Status.User.Extra {
		extra[name] = authorizationv1.ExtraValue(values)
	}
	may, err := g.clients.AuthorizationV1().SubjectAccessReviews().Create(ctx,
		&authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User: who.Status.User.Username, UID: who.Status.User.UID, Groups: who.Status.User.Groups, Extra: extra,
			NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: path, Verb: "get"},
		}}, metav1.CreateOptions{})
	if err != nil {
		return 0, fmt.Errorf("reviewing who may read %s: %w", path, err)
	}
	if !may.Status.Allowed {
		return http.StatusForbidden, nil
	}
	return http.StatusOK, nil
}
