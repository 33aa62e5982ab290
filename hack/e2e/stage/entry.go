package stage

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"regexp"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// GuestsNamespace has Traefik, the Gateway, and the authority that signs certificates.
	GuestsNamespace = "edge"
	// entryPort is where Traefik's pod takes https.
	entryPort = "8443"
)

// Entry is how phones and Exchange reach the cluster: all host names lead to Traefik, which terminates TLS.
type Entry struct {
	// Roots trust the authority that signs the certificates of what is exposed.
	Roots *x509.CertPool

	address string
	forward *exec.Cmd
}

// Dial connects to a host name as if it were in DNS. The address is not looked at: everything leads to Traefik.
func (e *Entry) Dial(ctx context.Context, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", e.address)
}

// openEntry finds the way to Traefik: its pod, in a cluster of this machine, else a port that kubectl forwards.
func (s *Stage) openEntry(ctx context.Context) error {
	e := &Entry{Roots: x509.NewCertPool()}
	authority := &corev1.Secret{}
	if err := s.Client.Get(ctx, client.ObjectKey{Namespace: certManagerNamespace, Name: "authority"}, authority); err != nil {
		return err
	}
	if !e.Roots.AppendCertsFromPEM(authority.Data[corev1.TLSCertKey]) {
		return errors.New("the authority's certificate cannot be read")
	}
	s.Entry = e
	if !s.Own() {
		return s.forwardEntry()
	}
	pods := &corev1.PodList{}
	if err := s.Client.List(ctx, pods, client.InNamespace(GuestsNamespace), client.MatchingLabels{"app": "traefik"}); err != nil {
		return err
	}
	if len(pods.Items) != 1 {
		return fmt.Errorf("there are %d pods of Traefik, want 1", len(pods.Items))
	}
	e.address = net.JoinHostPort(pods.Items[0].Status.PodIP, entryPort)
	return nil
}

var forwarding = regexp.MustCompile(`Forwarding from (127\.0\.0\.1:\d+)`)

// forwardEntry has kubectl forward a port until the stage is closed.
func (s *Stage) forwardEntry() error {
	e := s.Entry
	e.forward = exec.Command(s.kubectl, "--kubeconfig="+s.kubeconfig, "--namespace="+GuestsNamespace, "port-forward", "deployment/traefik", ":"+entryPort)
	output, err := e.forward.StdoutPipe()
	if err != nil {
		return err
	}
	if err := e.forward.Start(); err != nil {
		return err
	}
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		if found := forwarding.FindStringSubmatch(lines.Text()); found != nil {
			e.address = found[1]
			go func() { // it prints a line for each connection
				for lines.Scan() {
				}
			}()
			return nil
		}
	}
	return errors.New("kubectl port-forward ended without saying where it listens")
}

func (e *Entry) close() {
	if e.forward != nil {
		_ = e.forward.Process.Kill()
		_ = e.forward.Wait()
	}
}
