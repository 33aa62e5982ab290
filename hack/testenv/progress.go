package testenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

// progressInterval is how often a long step says that it is still at work.
const progressInterval = 10 * time.Second

// A watch reports on a long step, so that nobody takes it for hanging.
type watch struct {
	progress io.Writer
	step     string
	began    time.Time
	end      chan struct{}
	reporter sync.WaitGroup
}

// startWatch reports the step now and every progressInterval until done.
func startWatch(progress io.Writer, step string) *watch {
	w := &watch{progress: progress, step: step, began: time.Now(), end: make(chan struct{})}
	w.report("...")
	w.reporter.Go(func() {
		ticker := time.NewTicker(progressInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				w.report(fmt.Sprintf("... %.0f s", time.Since(w.began).Seconds()))
			case <-w.end:
				return
			}
		}
	})
	return w
}

// done reports how the step ended.
func (w *watch) done(err error) {
	close(w.end)
	w.reporter.Wait()
	outcome := "done"
	if err != nil {
		outcome = "failed"
	}
	w.report(fmt.Sprintf(": %s after %.1f s", outcome, time.Since(w.began).Seconds()))
}

func (w *watch) report(text string) { fmt.Fprintf(w.progress, "testenv: %s%s\n", w.step, text) }

// lockPoll is how often a lock that somebody else holds is tried again.
const lockPoll = 200 * time.Millisecond

// lock takes a lock file against other processes, waiting for whoever holds it as long as ctx allows. The kernel
// releases it when its holder dies.
func lock(ctx context.Context, path string, progress io.Writer, awaited string) (unlock func(), err error) {
	const forAllToLock = 0o666
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, forAllToLock)
	if err != nil {
		return nil, fmt.Errorf("opening a lock file: %w", err)
	}
	// Closing the file releases the lock. The file stays: removing it would let two processes lock two files.
	unlock = func() { _ = file.Close() }
	take := func() error { return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }
	if err = take(); !errors.Is(err, syscall.EWOULDBLOCK) {
		return unlockOnError(unlock, path, err)
	}
	waiting := startWatch(progress, "waiting for "+awaited)
	defer func() { waiting.done(err) }()
	ticker := time.NewTicker(lockPoll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return unlockOnError(unlock, path, ctx.Err())
		case <-ticker.C:
		}
		if err = take(); !errors.Is(err, syscall.EWOULDBLOCK) {
			return unlockOnError(unlock, path, err)
		}
	}
}

func unlockOnError(unlock func(), path string, err error) (func(), error) {
	if err != nil {
		unlock()
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	return unlock, nil
}
