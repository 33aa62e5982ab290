package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/hack/process"
	"github.com/ens-operator/ens-operator/hack/testenv"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/ews/segtest"
	"github.com/ens-operator/ens-operator/runtime/push/apns/apnstest"
	"github.com/ens-operator/ens-operator/runtime/push/fcm/fcmtest"
)

// scene is everything that runs.
type scene struct {
	folder   string
	postgres *testenv.PostgresServer
	database *testenv.Database
	kube     *testenv.KubeServer
	client   client.Client
	operator *process.Process
	runtime  *process.Process
	// address is where the runtime serves.
	address string

	exchange *ewstest.Server
	gateway  *segtest.Server
	apns     *apnstest.Server
	fcm      *fcmtest.Server

	tenant *v1alpha1.EnsTenant
	// roots trust the tenant's certificate, as phones and Exchange do.
	roots *x509.CertPool
}

const (
	// namespace is where the samples are applied.
	namespace = "default"
	// provisionTimeout bounds the operator's work, which takes seconds.
	provisionTimeout = 2 * time.Minute
	// stopTimeout bounds how long a program may take to end when it is asked to.
	stopTimeout = 40 * time.Second
)

// setScene starts everything but the runtime. The scene is returned with an error too, to be closed.
func setScene(ctx context.Context, n *narrator) (*scene, error) {
	s := &scene{}
	var err error
	if s.folder, err = os.MkdirTemp("", "ens-demo-"); err != nil {
		return s, err
	}
	n.chapter("The stage")
	if _, err := testenv.PostgresPrograms(ctx, n); err != nil {
		return s, err
	}
	if s.postgres, err = testenv.StartPostgres(ctx, testenv.WithFsync()); err != nil {
		return s, fmt.Errorf("starting Postgres: %w", err)
	}
	if s.database, err = s.postgres.CreateDatabase(ctx, "ens"); err != nil {
		return s, err
	}
	n.say("Postgres is up on port %d", s.postgres.Port())
	if _, err := testenv.Assets(ctx, n); err != nil {
		return s, err
	}
	if s.kube, err = testenv.StartKube(ctx); err != nil {
		return s, fmt.Errorf("starting the API server: %w", err)
	}
	n.say("A Kubernetes API server is up, with the project's CRDs")
	if s.client, err = client.New(s.kube.Config(), client.Options{Scheme: scheme()}); err != nil {
		return s, err
	}
	if err := s.startFakes(n); err != nil {
		return s, err
	}
	return s, s.startOperator(ctx, n)
}

func scheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	return scheme
}

// startFakes starts what cannot be had here.
func (s *scene) startFakes(n *narrator) error {
	var err error
	s.exchange, err = ewstest.Start(ewstest.Options{
		Authentication: []ewstest.Scheme{ewstest.Basic, ewstest.OAuth},
		DialCallback: func(ctx context.Context, network, _ string) (net.Conn, error) {
			// The tenant's host name is not in any DNS; it leads to the runtime.
			return new(net.Dialer).DialContext(ctx, network, s.address)
		},
	})
	if err != nil {
		return fmt.Errorf("starting the simulated Exchange: %w", err)
	}
	if s.gateway, err = segtest.Start(segtest.Options{Exchange: s.exchange}); err != nil {
		return fmt.Errorf("starting the simulated SEG: %w", err)
	}
	silent := func(string, ...any) {}
	s.apns = apnstest.Start(apnstest.Options{Logf: silent})
	s.fcm = fcmtest.Start(fcmtest.Options{Logf: silent, Project: sampleProject})
	n.say("Simulated Exchange (seed %d), a SEG in front of it, APNs and FCM are up", s.exchange.Seed)
	return nil
}

func (s *scene) startOperator(ctx context.Context, n *narrator) error {
	n.say("Building ens-operator and ens-runtime (minutes the first time) …")
	program, err := process.Build(ctx, s.folder, "operator")
	if err != nil {
		return err
	}
	if _, err := process.Build(ctx, s.folder, "runtime"); err != nil {
		return err
	}
	kubeconfig, databaseURL := filepath.Join(s.folder, "kubeconfig"), filepath.Join(s.folder, "database-url")
	if err := s.kube.WriteKubeconfig(kubeconfig); err != nil {
		return err
	}
	if err := os.WriteFile(databaseURL, []byte(s.database.URL), 0o600); err != nil {
		return err
	}
	command := exec.Command(program,
		"--kubeconfig", kubeconfig,
		"--database-url-file", databaseURL,
		"--leader-elect=false",
		"--metrics-bind-address=0",
		"--health-probe-bind-address=0",
		"--allow-loopback") // the simulated Exchange and push services are on this machine
	if s.operator, err = process.Start(command); err != nil {
		return err
	}
	n.say("ens-operator is running against both")
	return nil
}

// close takes everything down, in the opposite order.
func (s *scene) close() {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	var ended sync.WaitGroup
	for _, p := range []*process.Process{s.runtime, s.operator} {
		if p != nil {
			ended.Go(func() { _ = p.Terminate(ctx) }) // killed if it does not end
		}
	}
	ended.Wait()
	if s.fcm != nil {
		s.fcm.Close()
	}
	if s.apns != nil {
		s.apns.Close()
	}
	if s.gateway != nil {
		s.gateway.Close()
	}
	if s.exchange != nil {
		s.exchange.Close()
	}
	if s.kube != nil {
		_ = s.kube.Stop() // its janitor does it otherwise
	}
	if s.postgres != nil {
		_ = s.postgres.Stop() // likewise
	}
	_ = os.RemoveAll(s.folder)
}

// explain prints what helps to find out why a step failed.
func (s *scene) explain(n *narrator) {
	n.chapter("What the programs said last")
	for name, p := range map[string]*process.Process{"ens-operator": s.operator, "ens-runtime": s.runtime} {
		if p != nil {
			n.say("%s:\n%s", name, tail(p.Output()))
		}
	}
	if s.tenant != nil {
		for _, c := range s.tenant.Status.Conditions {
			n.say("condition %s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message)
		}
	}
}

// tailBytes of a log are enough to see how it ended.
const tailBytes = 4000

func tail(text string) string { return text[max(0, len(text)-tailBytes):] }

// keep leaves the scene up until ctx ends.
func (s *scene) keep(ctx context.Context, n *narrator) error {
	kubeconfig := filepath.Join(s.folder, "kubeconfig")
	n.chapter("Left running")
	n.say("export KUBECONFIG=%s", kubeconfig)
	n.say("%s get ens -A", s.kube.Kubectl())
	n.say("curl -k https://%s/MailNotificationService/api/ens/alive", s.address)
	n.say("simulated Exchange: %s", s.exchange.URL())
	n.say("Press Ctrl-C to stop everything.")
	select {
	case <-ctx.Done():
		return nil
	case <-s.operator.Done():
		return errors.New("ens-operator ended by itself")
	case <-s.runtime.Done():
		return errors.New("ens-runtime ended by itself")
	}
}

// waitProvisioned waits until the tenant says that everything but the running pods is there.
func (s *scene) waitProvisioned(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, provisionTimeout)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		tenant := &v1alpha1.EnsTenant{}
		if err := s.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, tenant); err != nil {
			return fmt.Errorf("reading the tenant: %w", err)
		}
		s.tenant = tenant
		if tenant.Status.ObservedGeneration == tenant.Generation &&
			apimeta.IsStatusConditionTrue(tenant.Status.Conditions, v1alpha1.ConditionProvisioned) {
			return nil
		}
		select {
		case <-ticker.C:
		case <-s.operator.Done():
			return errors.New("ens-operator ended")
		case <-ctx.Done():
			return fmt.Errorf("the tenant was not provisioned: %w", ctx.Err())
		}
	}
}
