package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ens-operator/ens-operator/controllers"
	"github.com/ens-operator/ens-operator/hack/process"
	"github.com/ens-operator/ens-operator/hack/testenv"
)

// Two operators, one lease: whatever becomes of the one that works, the other goes on, and never do both write.
func TestOneOfTwoOperatorsWorks(t *testing.T) {
	t.Parallel()
	program, err := process.Build(t.Context(), t.TempDir(), "operator")
	if err != nil {
		t.Fatal(err)
	}
	for name, end := range map[string]func(*testing.T, *rival){
		"it is stopped": func(t *testing.T, leader *rival) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := leader.Terminate(ctx); err != nil {
				t.Errorf("it ended with %v\n%s", err, leader.Output())
			}
		},
		"it is killed": func(_ *testing.T, leader *rival) { leader.Kill() },
		// What is cut off cannot know who has the lease, and has to end before another can take it.
		"it is cut off from the API server": func(_ *testing.T, leader *rival) { leader.cut.Store(true) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newContest(t, program)
			leader := c.start(t)
			c.wantReconciled(t, "one")
			next := c.start(t)
			eventually(t, nil, func() error {
				if !next.asked.Load() {
					return errors.New("the second one has not asked for the lease")
				}
				return nil
			})
			c.wantReconciled(t, "two")
			if written := next.written(); len(written) > 0 {
				t.Fatalf("both write: %v", written)
			}
			began := time.Now()
			end(t, leader)
			c.wantReconciled(t, "three")
			if leader.cut.Load() {
				select {
				case <-leader.Done():
				default:
					t.Error("the one that was cut off lives on although another works")
				}
			}
			first := next.written()[0].began
			for _, last := range leader.written() {
				if !last.ended.Before(first) {
					t.Errorf("both write: one until %v, the other from %v", last.ended, first)
				}
			}
			t.Logf("from the end of the one to the first write of the other: %v", first.Sub(began).Round(time.Millisecond))
		})
	}
}

// contest is where two operators have one lease.
type contest struct {
	kube      *testenv.KubeServer
	database  *testenv.Database
	namespace string
	program   string
	clients   client.Client
}

func newContest(t *testing.T, program string) *contest {
	t.Helper()
	kube := testenv.Kube(t)
	scheme, err := controllers.NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	clients, err := client.New(kube.Config(), client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	return &contest{kube: kube, database: testenv.Postgres(t).NewDatabase(t), namespace: kube.NewNamespace(t), program: program, clients: clients}
}

// wantReconciled makes a tenant and waits until one of the operators has looked at it.
func (c *contest) wantReconciled(t *testing.T, name string) {
	t.Helper()
	tenant := sampleTenant(c.namespace, name)
	if err := c.clients.Create(t.Context(), tenant); err != nil {
		t.Fatal(err)
	}
	eventually(t, nil, func() error {
		if err := c.clients.Get(t.Context(), client.ObjectKeyFromObject(tenant), tenant); err != nil {
			return err
		}
		if tenant.Status.ObservedGeneration != tenant.Generation {
			return fmt.Errorf("tenant %s has not been looked at", name)
		}
		return nil
	})
}

// rival is an operator with its own way to the API server, on which its writes are noted.
type rival struct {
	*process.Process
	// cut has nothing come through any more; asked is set once the lease was asked for.
	cut, asked atomic.Bool

	mutex  sync.Mutex
	writes []write
}

// write is when a write was under way.
type write struct{ began, ended time.Time }

// written are the writes so far, those of the lease itself and of Events left out.
func (r *rival) written() []write {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return append([]write(nil), r.writes...)
}

// start starts an operator in the contest.
func (c *contest) start(t *testing.T) *rival {
	t.Helper()
	r := &rival{}
	way := httptest.NewServer(r.proxy(t, c.kube.Config()))
	t.Cleanup(way.Close)
	config := clientcmdapi.NewConfig()
	config.Clusters["kube"] = &clientcmdapi.Cluster{Server: way.URL}
	config.Contexts["kube"] = &clientcmdapi.Context{Cluster: "kube"}
	config.CurrentContext = "kube"
	folder := t.TempDir()
	kubeconfig := filepath.Join(folder, "kubeconfig")
	if err := clientcmd.WriteToFile(*config, kubeconfig); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(c.program, "--leader-election-namespace="+c.namespace, "--watch-namespaces="+c.namespace,
		"--metrics-bind-address=0", "--health-probe-bind-address=0")
	command.Env = []string{"KUBECONFIG=" + kubeconfig, "HOME=" + folder, databaseURLVariable + "=" + c.database.URL}
	var err error
	if r.Process, err = process.Start(command); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Kill)
	return r
}

func (r *rival) proxy(t *testing.T, config *rest.Config) http.Handler {
	t.Helper()
	transport, err := rest.TransportFor(config)
	if err != nil {
		t.Fatal(err)
	}
	server, err := url.Parse(config.Host)
	if err != nil {
		t.Fatal(err)
	}
	return &httputil.ReverseProxy{
		Rewrite:       func(p *httputil.ProxyRequest) { p.SetURL(server) },
		FlushInterval: -1, // watches are answered bit by bit
		ErrorHandler:  func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
		Transport: roundTripper(func(request *http.Request) (*http.Response, error) {
			if r.cut.Load() {
				return nil, errors.New("cut off")
			}
			path := request.URL.Path
			if strings.Contains(path, "/leases") {
				r.asked.Store(true)
			}
			if request.Method != http.MethodGet && !strings.Contains(path, "/leases") && !strings.HasSuffix(path, "/events") {
				began := time.Now()
				defer func() {
					r.mutex.Lock()
					defer r.mutex.Unlock()
					r.writes = append(r.writes, write{began, time.Now()})
				}()
			}
			return transport.RoundTrip(request)
		}),
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
