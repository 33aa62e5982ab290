package stage

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/ens-operator/ens-operator/hack/testenv"
)

const (
	certManagerNamespace = "cert-manager"
	// rolloutLimit is how long pods that only have to start may take.
	rolloutLimit = "--timeout=180s"
)

// installGuests installs what an administrator's cluster has beside us: the Gateway API, cert-manager with an authority,
// and Traefik with a Gateway.
func (s *Stage) installGuests(ctx context.Context) error {
	s.say("installing the Gateway API, cert-manager and Traefik")
	root, err := testenv.RepositoryRoot()
	if err != nil {
		return err
	}
	gateway, err := testenv.ModuleFolder(ctx, root, "sigs.k8s.io/gateway-api")
	if err != nil {
		return err
	}
	// The kustomization beside them has objects for webhooks, too.
	if _, err := s.Kubectl(ctx, "apply", "--server-side", "-f", filepath.Join(gateway, "config", "crd", "standard")); err != nil {
		return err
	}
	if err := s.installCertManager(ctx, root); err != nil {
		return err
	}
	if _, err := s.Apply(ctx, "traefik.yaml", map[string]any{"Image": traefikImage, "Namespace": GuestsNamespace, "Host": s.Host}); err != nil {
		return err
	}
	if _, err := s.Kubectl(ctx, "--namespace="+GuestsNamespace, "rollout", "status", "deployment/traefik", rolloutLimit); err != nil {
		return err
	}
	return s.openEntry(ctx)
}

// installCertManager installs its own chart, with the images that are built here.
func (s *Stage) installCertManager(ctx context.Context, root string) error {
	module, err := testenv.ModuleFolder(ctx, root, "github.com/cert-manager/cert-manager")
	if err != nil {
		return err
	}
	values, err := s.WriteManifest("certmanager_values.yaml", nil)
	if err != nil {
		return err
	}
	_, err = s.Helm(ctx, "upgrade", "--install", "cert-manager", filepath.Join(module, "deploy", "charts", "cert-manager"),
		"--namespace", certManagerNamespace, "--create-namespace", "--values", values, "--wait", "--timeout=180s")
	if err != nil {
		return fmt.Errorf("installing cert-manager: %w", err)
	}
	if err := s.applyAuthority(ctx); err != nil {
		return err
	}
	_, err = s.Kubectl(ctx, "--namespace="+certManagerNamespace, "wait", "--for=condition=Ready", "certificate/authority", rolloutLimit)
	return err
}

const (
	// webhookLimit is how long it may take until the API server knows the authority of cert-manager's webhook, which is all
	// that the check in cert-manager's chart, for which there is no image here, would wait for.
	webhookLimit = time.Minute
	webhookPoll  = time.Second
)

// applyAuthority makes the authority as soon as cert-manager's webhook can be asked.
func (s *Stage) applyAuthority(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, webhookLimit)
	defer cancel()
	for {
		_, err := s.Apply(ctx, "authority.yaml", map[string]any{"Namespace": certManagerNamespace})
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(webhookPoll):
		}
	}
}
