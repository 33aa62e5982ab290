package charts_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/hack/process"
	"github.com/ens-operator/ens-operator/hack/testenv"
)

const (
	// patience is how long a test waits for the operator, which takes seconds on an idle machine.
	patience = 90 * time.Second
	poll     = 50 * time.Millisecond

	// samplesOwner is the field manager of whoever applies the samples.
	samplesOwner = "argocd-controller"
)

// cluster is an API server of one test, as an administrator sees it.
type cluster struct {
	t          *testing.T
	kube       *testenv.KubeServer
	clients    client.Client
	kubeconfig string
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	kube, err := testenv.StartKube(t.Context(), testenv.WithoutProjectCRDs()) // the chart brings them
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := kube.Stop(); err != nil {
			t.Error(err)
		}
	})
	c := &cluster{t: t, kube: kube, kubeconfig: filepath.Join(t.TempDir(), "kubeconfig")}
	scheme := runtime.NewScheme()
	err = errors.Join(clientscheme.AddToScheme(scheme), apiextensions.AddToScheme(scheme), api.AddToScheme(scheme), c.kube.WriteKubeconfig(c.kubeconfig))
	if err != nil {
		t.Fatal(err)
	}
	if c.clients, err = client.New(c.kube.Config(), client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	return c
}

// in is the cluster in a subtest.
func (c *cluster) in(t *testing.T) *cluster {
	inner := *c
	inner.t = t
	return &inner
}

// helm runs helm as the administrator.
func (c *cluster) helm(arguments ...string) {
	c.t.Helper()
	if _, err := helm(c.t, append(arguments, "--kubeconfig", c.kubeconfig)...); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) kubectl(arguments ...string) (string, error) {
	c.t.Helper()
	return kubectl(c.t, append(arguments, "--kubeconfig", c.kubeconfig)...)
}

// applySamples applies config/samples as Argo CD does: it must own what it applies, alone.
func (c *cluster) applySamples(into string) {
	c.t.Helper()
	samples := filepath.Join("..", "config", "samples")
	// The API server may need a moment to serve new CRDs.
	c.eventually(nil, "applying the samples", func() error {
		_, err := c.kubectl("apply", "--server-side", "--field-manager="+samplesOwner, "--namespace", into, "-k", samples)
		return err
	})
}

func (c *cluster) create(object client.Object) {
	c.t.Helper()
	if err := c.clients.Create(c.t.Context(), object); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) get(object client.Object) {
	c.t.Helper()
	if err := c.clients.Get(c.t.Context(), client.ObjectKeyFromObject(object), object); err != nil {
		c.t.Fatal(err)
	}
}

// token is a new one of a ServiceAccount.
func (c *cluster) token(namespace, name string) string {
	c.t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	request := &authenticationv1.TokenRequest{}
	if err := c.clients.SubResource("token").Create(c.t.Context(), account, request); err != nil {
		c.t.Fatal(err)
	}
	return request.Status.Token
}

// kubeconfigOf is a file with a ServiceAccount's way to the API server.
func (c *cluster) kubeconfigOf(namespace, name string) string {
	c.t.Helper()
	server, config := c.kube.Config(), clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{Server: server.Host, CertificateAuthorityData: server.CAData}
	config.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: c.token(namespace, name)}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name
	file := filepath.Join(c.t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, file); err != nil {
		c.t.Fatal(err)
	}
	return file
}

// operator is the program, run as its pod would be.
type operator struct {
	*process.Process
	t       *testing.T
	program string
	metrics string
}

// startOperator runs the operator with the arguments of the release's Deployment, and the rights of its ServiceAccount.
func (c *cluster) startOperator(namespace string, database *testenv.Database) *operator {
	t := c.t
	t.Helper()
	program, err := process.Build(t.Context(), t.TempDir(), "operator")
	if err != nil {
		t.Fatal(err)
	}
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "ens-operator"}}
	c.get(deployment)
	pod := deployment.Spec.Template.Spec
	// What is mounted in a pod is elsewhere here, and the ports may be taken.
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "url"), []byte(database.URL), 0o600); err != nil {
		t.Fatal(err)
	}
	o := &operator{t: t, program: program, metrics: freeAddress(t)}
	var arguments []string
	for _, argument := range pod.Containers[0].Args {
		arguments = append(arguments, strings.Replace(argument, "/etc/ens-operator/database", folder, 1))
	}
	arguments = append(arguments, "--leader-election-namespace="+namespace,
		"--metrics-bind-address="+o.metrics, "--health-probe-bind-address="+freeAddress(t))
	command := exec.Command(program, arguments...)
	command.Env = []string{"KUBECONFIG=" + c.kubeconfigOf(namespace, pod.ServiceAccountName), "HOME=" + folder}
	if o.Process, err = process.Start(command); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Kill)
	return o
}

// stop ends the operator as Kubernetes does.
func (o *operator) stop() {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(o.t.Context()), patience)
	defer cancel()
	if err := o.Terminate(ctx); err != nil {
		o.t.Errorf("it ended with %v\n%s", err, o.Output())
	}
}

func (c *cluster) waitProvisioned(o *operator, namespace string) {
	c.t.Helper()
	tenant := &api.EnsTenant{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "acme"}}
	c.eventually(o, "waiting for the tenant", func() error {
		if err := c.clients.Get(c.t.Context(), client.ObjectKeyFromObject(tenant), tenant); err != nil {
			return err
		}
		if !meta.IsStatusConditionTrue(tenant.Status.Conditions, api.ConditionProvisioned) {
			return fmt.Errorf("it is not provisioned: %v", tenant.Status.Conditions)
		}
		return nil
	})
}

// eventually repeats check until it gives no error, or the operator, if there is one, has ended.
func (c *cluster) eventually(o *operator, what string, check func() error) {
	c.t.Helper()
	var ended <-chan struct{}
	log := func() string { return "" }
	if o != nil {
		ended, log = o.Done(), o.Output
	}
	deadline, ticker := time.After(patience), time.NewTicker(poll)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-ended:
			c.t.Fatalf("%s: the operator has ended\n%s", what, log())
		case <-deadline:
			c.t.Fatalf("%s: %v\n%s", what, err, log())
		}
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
