package testenv

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

const (
	// serviceRange is wide: with envtest's own /24 the 255th Service hangs.
	serviceRange = "10.96.0.0/12"
	// kubeLimit bounds the start and the stop of etcd and of the API server, each.
	kubeLimit = time.Minute
	// certManagerModule has cert-manager's CRDs in deploy/crds.
	certManagerModule = "github.com/cert-manager/cert-manager"
)

// KubeServer is a running API server with an etcd. Nothing runs the workloads: there are no controllers and no nodes,
// so Deployments stay without pods, and a deleted namespace stays in Terminating.
type KubeServer struct {
	environment *envtest.Environment
	config      *rest.Config
	box         *sandbox
	assets      string
	stopping    sync.Once
	stopErr     error
}

// KubeOption changes what StartKube installs.
type KubeOption func(*kubeSettings)

type kubeSettings struct {
	withoutProject bool
	certManager    bool
	crds           []string
}

// WithCertManager installs the CRDs of cert-manager, of the version in go.mod.
func WithCertManager() KubeOption { return func(s *kubeSettings) { s.certManager = true } }

// WithCRDs installs further CRDs from files or folders.
func WithCRDs(paths ...string) KubeOption {
	return func(s *kubeSettings) { s.crds = append(s.crds, paths...) }
}

// WithoutProjectCRDs leaves out the project's own CRDs, as in a cluster where they have yet to be installed.
func WithoutProjectCRDs() KubeOption { return func(s *kubeSettings) { s.withoutProject = true } }

// StartKube starts an API server with the CRDs of config/crd/bases and waits until it is ready. The programs come from
// Assets, which may take minutes the first time; ctx bounds that.
func StartKube(ctx context.Context, options ...KubeOption) (*KubeServer, error) {
	var settings kubeSettings
	for _, option := range options {
		option(&settings)
	}
	assets, err := Assets(ctx, os.Stderr)
	if err != nil {
		return nil, err
	}
	crds, err := settings.crdPaths(ctx)
	if err != nil {
		return nil, err
	}
	box, err := newSandbox(os.TempDir(), "kube")
	if err != nil {
		return nil, err
	}
	server := &KubeServer{box: box, assets: assets}
	if server.environment, err = newEnvironment(box, assets, crds); err != nil {
		return nil, errors.Join(err, box.close())
	}
	if server.config, err = server.environment.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("starting an API server from %s: %w", assets, err), server.Stop())
	}
	return server, nil
}

// newEnvironment prepares an envtest with everything it writes inside the sandbox.
func newEnvironment(box *sandbox, assets string, crds []string) (*envtest.Environment, error) {
	environment := &envtest.Environment{
		CRDDirectoryPaths:        crds,
		ErrorIfCRDPathMissing:    true,
		ControlPlaneStartTimeout: kubeLimit,
		ControlPlaneStopTimeout:  kubeLimit,
		// A KUBECONFIG or USE_EXISTING_CLUSTER in the environment must never lead a test to a real cluster.
		UseExistingCluster: new(false),
	}
	plane := &environment.ControlPlane
	apiServer := plane.GetAPIServer()
	plane.Etcd = &envtest.Etcd{DataDir: box.path("etcd-data")}
	apiServer.CertDir = box.path("apiserver-certs")
	apiServer.Configure().Set("service-cluster-ip-range", serviceRange)
	const private = 0o700
	err := errors.Join(os.Mkdir(plane.Etcd.DataDir, private), os.Mkdir(apiServer.CertDir, private))
	if err != nil {
		return nil, fmt.Errorf("making the folders of the API server: %w", err)
	}
	if plane.Etcd.Path, err = box.wrap("etcd", filepath.Join(assets, "etcd")); err != nil {
		return nil, err
	}
	if apiServer.Path, err = box.wrap("kube-apiserver", filepath.Join(assets, "kube-apiserver")); err != nil {
		return nil, err
	}
	plane.KubectlPath = filepath.Join(assets, "kubectl")
	return environment, nil
}

func (settings kubeSettings) crdPaths(ctx context.Context) ([]string, error) {
	paths := settings.crds
	root, err := RepositoryRoot()
	if err != nil {
		return nil, err
	}
	if !settings.withoutProject {
		paths = append(paths, filepath.Join(root, "config", "crd", "bases"))
	}
	if settings.certManager {
		folder, err := ModuleFolder(ctx, root, certManagerModule)
		if err != nil {
			return nil, err
		}
		paths = append(paths, filepath.Join(folder, "deploy", "crds"))
	}
	return paths, nil
}

// Config is an administrator's way to the API server; it is a copy that the caller may change.
func (k *KubeServer) Config() *rest.Config { return rest.CopyConfig(k.config) }

// Kubeconfig is Config as a kubeconfig file's content. It holds the administrator's key.
func (k *KubeServer) Kubeconfig() []byte { return k.environment.KubeConfig }

// WriteKubeconfig writes Kubeconfig to a file that only we can read.
func (k *KubeServer) WriteKubeconfig(file string) error {
	const private = 0o600
	if err := os.WriteFile(file, k.Kubeconfig(), private); err != nil {
		return fmt.Errorf("writing the kubeconfig: %w", err)
	}
	return nil
}

// Kubectl is the path of a kubectl of the server's version.
func (k *KubeServer) Kubectl() string { return filepath.Join(k.assets, "kubectl") }

// AddUser returns another user's way to the API server. RBAC applies to it; it may do nothing until roles are bound to
// the name or one of the groups.
func (k *KubeServer) AddUser(name string, groups ...string) (*rest.Config, error) {
	added, err := k.environment.AddUser(envtest.User{Name: name, Groups: groups}, k.Config())
	if err != nil {
		return nil, fmt.Errorf("adding the user %s to the API server: %w", name, err)
	}
	return added.Config(), nil
}

// NewNamespace makes a namespace for one test and returns its name. It stays until the server stops: nothing here
// would finish its deletion.
func (k *KubeServer) NewNamespace(t testing.TB) string {
	t.Helper()
	clients, err := kubernetes.NewForConfig(k.config)
	if err != nil {
		t.Fatal(err)
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "test-" + strings.ToLower(rand.Text()[:10])}}
	if _, err := clients.CoreV1().Namespaces().Create(t.Context(), namespace, metav1.CreateOptions{}); err != nil {
		t.Fatalf("creating a namespace for the test: %v", err)
	}
	return namespace.Name
}

// Stop ends the API server and etcd and removes their data. It may be called more than once.
func (k *KubeServer) Stop() error {
	k.stopping.Do(func() {
		err := k.environment.Stop()
		if err == nil { // else the janitor finds them by their notes
			err = errors.Join(k.box.forget("kube-apiserver"), k.box.forget("etcd"))
		}
		k.stopErr = errors.Join(err, k.box.close())
	})
	return k.stopErr
}
