// Package stage sets the scene for stories on a real cluster: the cluster itself, our images in it, cert-manager, an entry
// for phones and Exchange, and outside of it Postgres, Exchange and the push services.
package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/hack/cluster/onenode"
	"github.com/ens-operator/ens-operator/hack/testenv"
)

// Stage is everything that runs.
type Stage struct {
	// Folder is where what is written goes: images, manifests, and in evidence what helps to understand a failure.
	Folder string
	// Client is an administrator's.
	Client client.Client
	// Host is the address under which pods reach this machine.
	Host string
	// Outside is what is outside of the cluster.
	Outside *Outside
	// Entry is how phones and Exchange reach what the cluster exposes.
	Entry *Entry

	progress   io.Writer
	kubeconfig string
	kubectl    string
	helm       string
	config     *rest.Config
	// own is the cluster if we have brought it up; nil if it was given.
	own *onenode.Cluster
}

// ErrNoCluster says that there is no cluster: none was given, and this machine bears none.
var ErrNoCluster = errors.New("there is no cluster to tell stories on")

// Set sets the scene. The stage is returned with an error too, to be closed. If there is no cluster, it is an ErrNoCluster.
func Set(ctx context.Context, folder string, progress io.Writer) (*Stage, error) {
	s := &Stage{Folder: folder, progress: progress}
	for _, step := range []func(context.Context) error{
		s.openCluster, s.connect, s.importImages, s.installGuests, s.startOutside,
	} {
		if err := step(ctx); err != nil {
			return s, err
		}
	}
	return s, nil
}

// Own says that the cluster was brought up for this run.
func (s *Stage) Own() bool { return s.own != nil }

// openCluster takes the cluster that KUBECONFIG names, or brings one up.
func (s *Stage) openCluster(ctx context.Context) error {
	if s.kubeconfig = os.Getenv("KUBECONFIG"); s.kubeconfig != "" {
		if s.Host = os.Getenv("E2E_HOST"); s.Host == "" {
			return errors.New("with KUBECONFIG set, set E2E_HOST to the address under which the cluster's pods reach this machine")
		}
		assets, err := testenv.Assets(ctx, s.progress)
		if err != nil {
			return err
		}
		s.kubectl = filepath.Join(assets, "kubectl")
		return nil
	}
	own, err := onenode.New(onenode.DefaultFolder(), s.progress)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoCluster, err)
	}
	s.own, s.Host = own, onenode.HostAddress
	if err := own.Up(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrNoCluster, err)
	}
	s.kubeconfig, s.kubectl = own.Kubeconfig(), own.Kubectl()
	return nil
}

func (s *Stage) connect(ctx context.Context) (err error) {
	if s.helm, err = testenv.Helm(ctx, s.progress); err != nil {
		return err
	}
	if s.config, err = clientcmd.BuildConfigFromFlags("", s.kubeconfig); err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	s.config.QPS = -1 // nobody else's patience is at stake
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	s.Client, err = client.New(s.config, client.Options{Scheme: scheme})
	return err
}

// Close takes everything down. With keep, the cluster and the servers outside stay until ctx ends.
func (s *Stage) Close(ctx context.Context) error {
	if s.Entry != nil {
		s.Entry.close()
	}
	var failed error
	if s.Outside != nil {
		failed = s.Outside.close()
	}
	if s.own != nil {
		failed = errors.Join(failed, s.own.Down(ctx))
	}
	return failed
}

// Kubeconfig is the file with an administrator's access.
func (s *Stage) Kubeconfig() string { return s.kubeconfig }

// say tells what is being done.
func (s *Stage) say(format string, arguments ...any) {
	fmt.Fprintf(s.progress, format+"\n", arguments...)
}
