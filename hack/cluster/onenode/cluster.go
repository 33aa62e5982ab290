package onenode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/ens-operator/ens-operator/hack/testenv"
)

const (
	nodeName = "node1"
	// HostAddress is the node's address and that of this machine for the pods. The API server takes no loopback address.
	HostAddress = "10.99.0.1"
	// The ranges of Services and pods, of which the first address and the tenth have a meaning.
	serviceRange   = "10.96.0.0/16"
	serviceAddress = "10.96.0.1"
	dnsAddress     = "10.96.0.10"
	podRange       = "10.244.0.0/24"

	serverURL = "https://127.0.0.1:6443"
	etcdURL   = "http://127.0.0.1:12379"
	etcdPeer  = "http://127.0.0.1:12380"

	// startLimit bounds each step of the start, which takes seconds.
	startLimit = 2 * time.Minute
	poll       = 200 * time.Millisecond
)

// Cluster is a cluster that may be up or not.
type Cluster struct {
	// folder holds everything. It is an absolute path.
	folder   string
	progress io.Writer
	programs map[string]string
	// claimed is the lock file, while the cluster is ours.
	claimed *os.File
}

// DefaultFolder is where a cluster is if nobody says otherwise.
func DefaultFolder() string { return filepath.Join(os.TempDir(), "ens-testenv-cluster") }

// New describes the cluster in a folder. What takes long is told on progress.
func New(folder string, progress io.Writer) (*Cluster, error) {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return nil, err
	}
	return &Cluster{folder: folder, progress: progress}, nil
}

// Prepare gets everything that Up needs: packages, programs and images. The first time it takes minutes.
func (c *Cluster) Prepare(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return errors.New("a cluster of processes of this machine needs root; give a kubeconfig of another cluster instead (KUBECONFIG)")
	}
	if err := installPackages(ctx, c.progress); err != nil {
		return err
	}
	var err error
	c.programs, err = testenv.ClusterPrograms(ctx, c.progress)
	return err
}

// Up starts the cluster and waits until its node is ready and names resolve in pods. What an earlier cluster in the same
// folder has left is taken away first.
func (c *Cluster) Up(ctx context.Context) error {
	if err := c.Prepare(ctx); err != nil {
		return err
	}
	if err := c.claim(); err != nil {
		return err
	}
	if err := c.Down(ctx); err != nil {
		return fmt.Errorf("taking down what was left of an earlier cluster: %w", err)
	}
	began := time.Now()
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"certificates", c.writeIdentities},
		{"network", c.startNetwork},
		{"control plane", c.startControlPlane},
		{"containerd", c.startContainerd},
		{"node", c.startNode},
		{"names", c.startNames},
	} {
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("starting the cluster: %s: %w", step.what, err)
		}
		fmt.Fprintf(c.progress, "cluster: %s after %.1f s\n", step.what, time.Since(began).Seconds())
	}
	return nil
}

// claim keeps other processes from bringing up a cluster in the folder, and so from taking this one down, as long as ours
// lives. The kernel releases it in every case.
func (c *Cluster) claim() error {
	const forAllToLock = 0o666
	file, err := os.OpenFile(c.folder+".lock", os.O_CREATE|os.O_RDWR, forAllToLock)
	if err != nil {
		return err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return errors.Join(fmt.Errorf("another process is at work with the cluster in %s: %w", c.folder, err), file.Close())
	}
	c.claimed = file // collected, it would be closed
	return nil
}

// Kubeconfig is the file with an administrator's access.
func (c *Cluster) Kubeconfig() string { return c.path("conf", administrator+".kubeconfig") }

// Kubectl is where the command is.
func (c *Cluster) Kubectl() string { return c.programs["kubectl"] }

// Logs is the folder with what the cluster's processes have written.
func (c *Cluster) Logs() string { return c.path("log") }

func (c *Cluster) path(elements ...string) string {
	return filepath.Join(append([]string{c.folder}, elements...)...)
}

func (c *Cluster) config() (*rest.Config, error) {
	return clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
}

func (c *Cluster) client() (kubernetes.Interface, error) {
	config, err := c.config()
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}

// await tries until ready gives no error.
func await(ctx context.Context, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready after %v: %w", startLimit, err)
		case <-tick.C:
		}
	}
}

// apiReady asks the API server.
func (c *Cluster) apiReady(ctx context.Context) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
}

// nodeReady asks for the node, and for what the controller manager makes.
func (c *Cluster) nodeReady(ctx context.Context) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	node, err := client.CoreV1().Nodes().Get(ctx, nodeName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == "Ready" && condition.Status != "True" {
			return fmt.Errorf("the node is not ready: %s", condition.Message)
		}
	}
	_, err = client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
	return err
}
