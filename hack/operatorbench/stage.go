package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/hack/operatorbench/profile"
	"github.com/ens-operator/ens-operator/hack/process"
	"github.com/ens-operator/ens-operator/hack/testenv"
)

// stage is what the operator runs against, and what starts it.
type stage struct {
	folder   string
	postgres *testenv.PostgresServer
	kube     *testenv.KubeServer
	client   client.WithWatch
	counter  *counter
	program  string
	// profiles is the folder for profiles of the operators, empty for none.
	profiles string
}

// stopTimeout bounds how long an operator may take to end when it is asked to.
const stopTimeout = 30 * time.Second

// setStage starts an API server and a Postgres and builds the operator. The stage is returned with an error too, to be
// closed.
func setStage(ctx context.Context, profiles string) (*stage, error) {
	s := &stage{profiles: profiles}
	var err error
	if s.folder, err = os.MkdirTemp("", "ens-operatorbench-"); err != nil {
		return s, err
	}
	if _, err := testenv.PostgresPrograms(ctx, os.Stderr); err != nil {
		return s, err
	}
	if s.postgres, err = testenv.StartPostgres(ctx, testenv.WithFsync()); err != nil {
		return s, fmt.Errorf("starting Postgres: %w", err)
	}
	database, err := s.postgres.CreateDatabase(ctx, "ens")
	if err != nil {
		return s, err
	}
	if _, err := testenv.Assets(ctx, os.Stderr); err != nil {
		return s, err
	}
	if s.kube, err = testenv.StartKube(ctx); err != nil {
		return s, fmt.Errorf("starting the API server: %w", err)
	}
	if s.client, err = client.NewWithWatch(s.kube.Config(), client.Options{Scheme: scheme()}); err != nil {
		return s, err
	}
	if s.counter, err = startCounter(ctx, s.kube.Config()); err != nil {
		return s, err
	}
	if err := s.build(ctx); err != nil {
		return s, err
	}
	if err := os.WriteFile(s.file("database-url"), []byte(database.URL), 0o600); err != nil {
		return s, err
	}
	return s, s.writeKubeconfig()
}

// profiled is what is added to the program to have profiles of it.
const profiled = `package main

import _ "github.com/ens-operator/ens-operator/hack/operatorbench/profile"
`

func (s *stage) build(ctx context.Context) error {
	const program = "cmd/operator"
	var flags []string
	if s.profiles != "" {
		root, err := testenv.RepositoryRoot()
		if err != nil {
			return err
		}
		addition := filepath.Join(root, program, "profiled.go") // which is not there but for the compiler
		overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{addition: s.file("profiled.go")}})
		if err != nil {
			return err
		}
		if err := errors.Join(os.MkdirAll(s.profiles, 0o755), os.WriteFile(s.file("profiled.go"), []byte(profiled), 0o600),
			os.WriteFile(s.file("overlay.json"), overlay, 0o600)); err != nil {
			return err
		}
		flags = []string{"-overlay", s.file("overlay.json")}
	}
	var err error
	s.program, err = process.BuildFrom(ctx, s.folder, program, flags...)
	return err
}

func (s *stage) file(name string) string { return filepath.Join(s.folder, name) }

// writeKubeconfig leads the operator to the counter.
func (s *stage) writeKubeconfig() error {
	config := clientcmdapi.NewConfig()
	const name = "counted"
	config.Clusters[name] = &clientcmdapi.Cluster{Server: s.counter.url}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name}
	config.CurrentContext = name
	return clientcmd.WriteToFile(*config, s.file("kubeconfig"))
}

func scheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	return scheme
}

// operator is a running one.
type operator struct {
	*process.Process
	// metrics is where it serves them.
	metrics string
	// profiled says whether it makes profiles.
	profiled bool
}

// startOperator starts one of the operators that elect a leader among themselves.
func (s *stage) startOperator(ctx context.Context) (*operator, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	command := exec.Command(s.program, //nolint:noctx // it ends by close
		"--kubeconfig", s.file("kubeconfig"),
		"--database-url-file", s.file("database-url"),
		"--leader-election-namespace", namespace,
		"--metrics-bind-address", address,
		"--metrics-secure=false",
		"--health-probe-bind-address=0",
		"--allow-loopback") // the endpoints are on this machine, where nobody answers
	command.Env = append(os.Environ(), profile.FolderVariable+"="+s.profiles)
	started, err := process.Start(command)
	if err != nil {
		return nil, err
	}
	return &operator{Process: started, metrics: "http://" + address + "/metrics", profiled: s.profiles != ""}, nil
}

// tellProfiles has an operator write its profiles, if it makes any.
func (o *operator) tellProfiles() error {
	if !o.profiled {
		return nil
	}
	if err := syscall.Kill(o.PID(), profile.Signal); err != nil {
		return fmt.Errorf("asking the operator for its profiles: %w", err)
	}
	return nil
}

func freeAddress(ctx context.Context) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("looking for a free port: %w", err)
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

// end asks an operator to end, as Kubernetes does.
func (o *operator) end() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return o.Terminate(ctx)
}

// close takes everything down but the operators.
func (s *stage) close() {
	if s.counter != nil {
		s.counter.close()
	}
	if s.kube != nil {
		_ = s.kube.Stop() // its janitor does it otherwise
	}
	if s.postgres != nil {
		_ = s.postgres.Stop() // likewise
	}
	_ = os.RemoveAll(s.folder)
}
