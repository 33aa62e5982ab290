// Command demo shows the whole story on one machine, with nothing but Go to begin with: an administrator applies a
// tenant, phones register, mail arrives at Exchange and the phones show it.
//
// The API server, Postgres, the operator and the runtime are real. Exchange, APNs, FCM and the phones are the project's
// strict fakes. With KEEP=1 it leaves everything running to play with, until Ctrl-C.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log.SetLogger(logr.Discard()) // controller-runtime's client would complain that it has none
	narrator := newNarrator(os.Stdout)
	err := show(ctx, narrator, func(s *story) error {
		if os.Getenv("KEEP") == "" {
			return nil
		}
		return s.keep(ctx, narrator)
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "\nThe demo failed:", err)
		os.Exit(1)
	}
}

// show sets the scene, tells the story, lets afterwards look at what is left of it, takes everything down, and ends with
// what the phone showed.
func show(ctx context.Context, n *narrator, afterwards func(*story) error) error {
	t, err := play(ctx, n, afterwards)
	if err != nil {
		return err
	}
	n.chapter("In short, what the phone showed")
	n.screen("iPhone", t.shownBadge, t.shown.Title, t.shown.Subtitle)
	return nil
}

func play(ctx context.Context, n *narrator, afterwards func(*story) error) (t *story, err error) {
	s, err := setScene(ctx, n)
	defer func() {
		if err != nil {
			s.explain(n)
		}
		n.chapter("The curtain falls")
		n.say("the runtime drains, as in a rollout, before it stops …")
		s.close()
		n.say("nothing is left running")
	}()
	if err != nil {
		return nil, err
	}
	if t, err = tell(ctx, n, s); err != nil {
		return nil, err
	}
	return t, afterwards(t)
}
