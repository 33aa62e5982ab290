package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers"
	"github.com/ens-operator/ens-operator/hack/testenv"
)

func TestMain(m *testing.M) {
	log.SetLogger(logr.Discard())
	testenv.Main(m)
}

const (
	// patience is generous: a lease that nobody gave back ends after 15 seconds, and others look at it every two.
	patience = time.Minute
	poll     = 50 * time.Millisecond
)

// The whole program: it becomes the leader, works, answers probes, and ends in good order.
func TestOperatorRunsAndStops(t *testing.T) {
	kube, database := testenv.Kube(t), testenv.Postgres(t).NewDatabase(t)
	namespace := kube.NewNamespace(t)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := kube.WriteKubeconfig(kubeconfig); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", kubeconfig)
	health, metrics := freeAddress(t), freeAddress(t)
	o, err := parse(t, map[string]string{databaseURLVariable: database.URL},
		"--leader-election-namespace", namespace, "--health-probe-bind-address", health, "--metrics-bind-address", metrics)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, o) }()

	scheme, err := controllers.NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	clients, err := client.New(kube.Config(), client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	tenant := sampleTenant(namespace, "acme")
	if err := clients.Create(ctx, tenant); err != nil {
		t.Fatal(err)
	}
	eventually(t, ended, func() error {
		if err := clients.Get(ctx, client.ObjectKeyFromObject(tenant), tenant); err != nil {
			return err
		}
		if tenant.Status.ObservedGeneration != tenant.Generation {
			return fmt.Errorf("the tenant has not been looked at: %+v", tenant.Status)
		}
		return nil
	})
	eventually(t, ended, func() error { return answers("http://"+health+"/readyz", http.StatusOK) })
	// Nobody reads metrics over plain http.
	eventually(t, ended, func() error { return answers("http://"+metrics+"/metrics", http.StatusBadRequest) })

	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(patience):
		t.Error("it does not end")
	}
}

// sampleTenant is one whose endpoint and provider do not exist.
func sampleTenant(namespace, name string) *api.EnsTenant {
	return &api.EnsTenant{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: api.EnsTenantSpec{
			Hostname: api.Hostname(name + "." + namespace + ".example.com"), Endpoints: []api.ResourceName{"exchange"},
			PushProviders: []api.ResourceName{"apple"}, TLS: api.TenantTLS{TerminatedElsewhere: &api.TerminatedElsewhere{}},
		},
	}
}

// freeAddress is a loopback address that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func answers(url string, want int) error {
	answer, err := http.Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != want {
		return fmt.Errorf("%s answers %s", url, answer.Status)
	}
	return nil
}

func eventually(t *testing.T, ended <-chan error, check func() error) {
	t.Helper()
	deadline, ticker := time.After(patience), time.NewTicker(poll)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case end := <-ended:
			t.Fatalf("the operator ended: %v", end)
		case <-deadline:
			t.Fatal(err)
		}
	}
}
