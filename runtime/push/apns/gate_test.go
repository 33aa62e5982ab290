package apns_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/apns"
	"github.com/ens-operator/ens-operator/runtime/push/apns/apnstest"
	"github.com/ens-operator/ens-operator/runtime/push/pushtest"
)

// crowd pushes n mails to d at once and fails the test if one fails.
func (w world) crowd(t *testing.T, d push.Device, n int) {
	t.Helper()
	var pushes sync.WaitGroup
	for i := range n {
		pushes.Go(func() {
			mail := pushtest.Mail()
			mail.CollapseID = fmt.Sprint("mail-", i)
			if err := w.Push(t.Context(), d, mail); err != nil {
				t.Errorf("Push: %v", err)
			}
		})
	}
	pushes.Wait()
}

func TestPushesAtTheStartShareOneConnectionWithinItsLimit(t *testing.T) {
	t.Parallel()
	const pushes = 16
	tests := map[string]apnstest.Options{
		"calm":                      {Calm: true},
		"calm, with slow answers":   {Calm: true, MaxDelay: 20 * time.Millisecond},
		"SETTINGS before or after":  {Seed: 11, MaxDelay: 5 * time.Millisecond},
		"another number of streams": {Seed: 12, MaxDelay: 5 * time.Millisecond},
	}
	for name, options := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, options, nil)
			d := w.phone()
			w.crowd(t, d, pushes)
			stats := w.apple.Stats()
			if stats.Connections != 1 || stats.RefusedStreams != 0 || stats.Accepted != pushes {
				t.Errorf("stats = %+v, want one connection, no refused stream, %d accepted", stats, pushes)
			}
			if options.Calm && stats.MostStreams < 2 {
				t.Errorf("stats = %+v: the raised limit was not used", stats)
			}
		})
	}
}

func TestTheLimitThatFallsAfterARefusalIsKept(t *testing.T) {
	t.Parallel()
	w := start(t, apnstest.Options{Calm: true}, nil)
	d, gone := w.phone(), w.phone()
	w.push(t, d, pushtest.Mail())
	w.apple.Unregister(gone.Token, time.Now())
	for range 3 {
		if err := w.Push(t.Context(), gone, pushtest.Mail()); push.OutcomeOf(err) != push.DeadToken {
			t.Fatalf("err = %v, want a dead token", err)
		}
		w.crowd(t, d, 16)
	}
	if stats := w.apple.Stats(); stats.Connections != 1 || stats.RefusedStreams != 0 {
		t.Errorf("stats = %+v, want one connection and no refused stream", stats)
	}
}

func TestAFurtherConnectionIsOpenedOnlyIfTheQueuePersists(t *testing.T) {
	t.Parallel()
	w := start(t, apnstest.Options{Calm: true}, nil)
	d := w.phone()
	release := make(chan struct{})
	w.apple.OnRequest(func(r apnstest.Request) *apnstest.Fault {
		if r.Connection == 1 {
			// The first connection is stuck with its only stream.
			<-release
		}
		return nil
	})
	began := time.Now()
	first := make(chan error, 1)
	go func() { first <- w.Push(t.Context(), d, pushtest.Mail()) }()
	w.waitForRequests(t, 1)
	w.push(t, d, pushtest.Mail())
	if took := time.Since(began); took < time.Second {
		t.Errorf("another connection was opened after %s already", took)
	}
	close(release)
	if err := <-first; err != nil {
		t.Errorf("the stuck push: %v", err)
	}
	if stats := w.apple.Stats(); stats.Connections != 2 {
		t.Errorf("stats = %+v, want two connections", stats)
	}
}

func TestALimitThatIsRaisedLaterIsUsedAtOnce(t *testing.T) {
	t.Parallel()
	// A busy machine may be slow, but not every time.
	const tries = 5
	for range tries {
		if took := pushBesideAStuckOne(t); took < time.Second {
			return
		}
	}
	t.Error("the raised limit was noticed only after the time that a queue is given")
}

// pushBesideAStuckOne returns how long a push takes that has to wait for the raised limit.
func pushBesideAStuckOne(t *testing.T) time.Duration {
	t.Helper()
	w := start(t, apnstest.Options{Calm: true, SettingsDelay: 100 * time.Millisecond}, nil)
	d := w.phone()
	w.push(t, d, pushtest.Mail())
	w.apple.OnRequest(func(r apnstest.Request) *apnstest.Fault {
		if r.Number != 2 {
			return nil
		}
		// The second push takes the only stream there is, and keeps it.
		return &apnstest.Fault{Hang: true}
	})
	stuck := make(chan error, 1)
	go func() { stuck <- w.Push(t.Context(), d, pushtest.Mail()) }()
	w.waitForRequests(t, 2)
	began := time.Now()
	w.push(t, d, pushtest.Mail())
	took := time.Since(began)
	if stats := w.apple.Stats(); stats.Connections != 1 {
		t.Errorf("stats = %+v, want one connection", stats)
	}
	_ = w.Close()
	if err := <-stuck; err == nil {
		t.Error("the stuck push was accepted")
	}
	return took
}

// waitForRequests waits until Apple has seen n requests.
func (w world) waitForRequests(t *testing.T, n int) {
	t.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for range ticker.C {
		if w.apple.Stats().Requests >= n {
			return
		}
		if t.Context().Err() != nil {
			t.Fatal("the test ended before the requests came")
		}
	}
}

func TestAConnectionThatEndsIsReplacedWithoutLoss(t *testing.T) {
	t.Parallel()
	tests := map[string]apnstest.Fault{
		"GOAWAY":             {GoAway: true},
		"cut":                {Cut: true},
		"503 Shutdown":       {Status: 503, Reason: "Shutdown"},
		"500":                {Status: 500, Reason: "InternalServerError"},
		"a proxy's 502 page": {Status: 502, Body: "<html>Bad Gateway</html>"},
		"400 IdleTimeout":    {Status: 400, Reason: "IdleTimeout"},
	}
	for name, fault := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, apnstest.Options{Calm: true}, nil)
			d := w.phone()
			w.push(t, d, pushtest.Mail())
			w.apple.FailNext(1, fault)
			w.push(t, d, pushtest.Mail())
			w.push(t, d, pushtest.Mail())
			if all := w.apple.Notifications(d.Token); len(all) != 3 || all[2].Connection != 2 {
				t.Errorf("%d notifications, the last over connection %d; want 3 and the second", len(all), all[len(all)-1].Connection)
			}
		})
	}
}

func TestARefusedStreamIsTriedAgainOnTheSameConnection(t *testing.T) {
	t.Parallel()
	w := start(t, apnstest.Options{Calm: true}, nil)
	d := w.phone()
	w.push(t, d, pushtest.Mail())
	w.apple.FailNext(1, apnstest.Fault{RefuseStream: true})
	w.push(t, d, pushtest.Mail())
	if stats := w.apple.Stats(); stats.Connections != 1 || stats.Accepted != 2 {
		t.Errorf("stats = %+v, want one connection and two accepted pushes", stats)
	}
}

func TestConnectionsThatBringNothingAreNotMadeInAStorm(t *testing.T) {
	t.Parallel()
	w := start(t, apnstest.Options{Calm: true}, func(o *apns.Options) { o.Timeout = 3 * time.Second })
	w.apple.OnRequest(func(apnstest.Request) *apnstest.Fault { return &apnstest.Fault{Cut: true} })
	d := w.phone()
	var pushes sync.WaitGroup
	for range 20 {
		pushes.Go(func() {
			if err := w.Push(t.Context(), d, pushtest.Mail()); push.OutcomeOf(err) != push.Retry {
				t.Errorf("err = %v, want a retry", err)
			}
		})
	}
	pushes.Wait()
	if stats := w.apple.Stats(); stats.Connections > 6 {
		t.Errorf("stats = %+v: too many connections in three seconds", stats)
	}
}

func TestALongRunOverAwkwardConnectionsLosesNothing(t *testing.T) {
	t.Parallel()
	w := start(t, apnstest.Options{MaxDelay: 2 * time.Millisecond}, nil)
	d := w.phone()
	const rounds, each = 15, 100
	for range rounds {
		w.crowd(t, d, each)
	}
	if stats := w.apple.Stats(); stats.Accepted != rounds*each || stats.Connections < 2 {
		t.Errorf("stats = %+v, want %d accepted over several connections", stats, rounds*each)
	}
}
