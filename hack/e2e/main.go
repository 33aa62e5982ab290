// Command e2e tells stories on a real Kubernetes: the chart is installed, pods run, phones and Exchange come through a real
// TLS entry, and while mail flows the cluster is changed and broken. Each story says what it saw, with counts.
//
// With KUBECONFIG it uses that cluster (E2E_HOST and E2E_IMPORT go with it, see docs/e2e.md); else, as root on Linux, it
// brings one up from processes of this machine and takes it down again. A story that fails leaves logs and objects in a
// folder that it names. It is no test of `go test ./...`: it takes minutes and changes the machine while it runs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/ens-operator/ens-operator/hack/e2e/stage"
)

// A story is one thing that an administrator does or suffers, with what must come of it.
type story struct {
	// name is what -run is matched with.
	name, title string
	tell        func(context.Context, *theatre) error
	// needed says that others build upon it: it is told whatever -run says.
	needed bool
}

// stories are all, in the order in which they are told.
var stories = []story{
	{name: "install", title: "The operator is installed by Helm", tell: install, needed: true},
	{name: "tenant", title: "A tenant, from nothing to the first notification on a phone", tell: tenantFromNothing, needed: true},
	{name: "rest", title: "What the pods take while nothing happens", tell: rest},
	{name: "gitops", title: "The same manifests are applied again", tell: gitOps},
	{name: "scale", title: "The tenant is scaled to 1, 4, 1 and 2 pods", tell: scale},
	{name: "rollout", title: "Another runtime image, and back", tell: rollout},
	{name: "upgrade", title: "The operator is upgraded by Helm, and with it the runtime", tell: upgrade},
	{name: "rotation", title: "New keys, a new token and a new database password, while phones register", tell: rotation},
	{name: "pin", title: "Exchange gets another certificate", tell: pin},
	{name: "gateway", title: "The Secure Email Gateway refuses a phone, and has lost its policies for a while", tell: gateway},
	{name: "crash", title: "kill -9 of the runtime", tell: crash},
	{name: "leader", title: "The leading operator is deleted during its work", tell: leader},
	{name: "failover", title: "Postgres' primary is lost", tell: failOver},
	{name: "policy", title: "The network policies", tell: policy},
	{name: "ingress", title: "An Ingress, and the runtime's own TLS behind it", tell: ingress},
	{name: "namespaced", title: "An operator without rights on the cluster", tell: namespaced},
	{name: "retain", title: "The tenant is deleted and applied again", tell: retain},
	{name: "reinstall", title: "The chart is uninstalled and installed again", tell: reinstall},
}

// errNotReady says that we were told to stop before everything was built and ran.
var errNotReady = errors.New("interrupted before the first story")

// exitNoStage is the exit code that says that no story was told, for a reason that says nothing about what the stories are of.
const exitNoStage = 3

// storyLimit bounds one story.
const storyLimit = 10 * time.Minute

func main() {
	pattern := flag.String("run", "", "tell only the stories whose names match this regular expression, and those that they need")
	keep := flag.Bool("keep", false, "leave everything running afterwards, until Ctrl-C")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log.SetLogger(logr.Discard()) // controller-runtime's client would complain that it has none
	if err := run(ctx, *pattern, *keep); err != nil {
		fmt.Fprintln(os.Stderr, "\ne2e:", err)
		if errors.Is(err, errNotReady) || errors.Is(err, stage.ErrNoCluster) {
			os.Exit(exitNoStage)
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, pattern string, keep bool) (err error) {
	chosen, err := regexp.Compile(pattern)
	if err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "ens-e2e-")
	if err != nil {
		return err
	}
	out := newTeller(os.Stdout)
	out.chapter("The stage")
	scene, failed := stage.Set(ctx, folder, out)
	if failed != nil && ctx.Err() != nil {
		failed = fmt.Errorf("%w: %w", errNotReady, failed)
	}
	defer func() {
		if keep && ctx.Err() == nil {
			out.say("left running until Ctrl-C: export KUBECONFIG=%s", scene.Kubeconfig())
			<-ctx.Done()
		}
		out.chapter("The curtain falls")
		err = errors.Join(err, scene.Close(context.WithoutCancel(ctx)))
		if err == nil {
			err = os.RemoveAll(folder)
		}
	}()
	t := &theatre{Stage: scene, teller: out}
	if failed == nil {
		failed = t.tellAll(ctx, chosen)
	}
	if failed != nil {
		evidence := scene.KeepEvidence(context.WithoutCancel(ctx))
		return fmt.Errorf("%w\nlogs and objects are in %s", failed, evidence)
	}
	return nil
}

// tellAll tells the stories until one fails, and prints what came of each.
func (t *theatre) tellAll(ctx context.Context, chosen *regexp.Regexp) error {
	var results []string
	defer func() {
		t.chapter("In short")
		for _, result := range results {
			t.say("%s", result)
		}
	}()
	for _, s := range stories {
		if !s.needed && !chosen.MatchString(s.name) {
			continue
		}
		t.chapter(s.title)
		began := time.Now()
		t.counted = ""
		err := t.tellOne(ctx, s)
		outcome := "passed"
		if err != nil {
			outcome = "FAILED"
		}
		results = append(results, fmt.Sprintf("%-6s %-22s %6.1f s  %s", outcome, s.name, time.Since(began).Seconds(), t.counted))
		if err != nil {
			t.say("FAILED: %v", err)
			return fmt.Errorf("story %s: %w", s.name, err)
		}
	}
	return nil
}

func (t *theatre) tellOne(ctx context.Context, s story) error {
	ctx, cancel := context.WithTimeout(ctx, storyLimit)
	defer cancel()
	return s.tell(ctx, t)
}
