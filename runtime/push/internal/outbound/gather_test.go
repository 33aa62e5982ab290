package outbound_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/push/internal/outbound"
)

// ample is a time limit that nothing here comes to.
const ample = time.Minute

// gathered returns the two ends of a connection over loopback, of which near gathers. through may put something below it.
func gathered(t *testing.T, timeout time.Duration, through func(net.Conn) net.Conn) (near, far net.Conn) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dial := outbound.Gather(func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err == nil && through != nil {
			conn = through(conn)
		}
		return conn, err
	}, timeout)
	if near, err = dial(t.Context(), "tcp", listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = near.Close() })
	if far, err = listener.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = far.Close() })
	return near, far
}

// heldUp is a connection each of whose writes waits to be let through.
type heldUp struct {
	net.Conn
	written chan string
	through chan error
}

func (h *heldUp) Write(p []byte) (int, error) {
	h.written <- string(p)
	if err := <-h.through; err != nil {
		return 0, err
	}
	return h.Conn.Write(p)
}

func hold(to **heldUp) func(net.Conn) net.Conn {
	return func(conn net.Conn) net.Conn {
		*to = &heldUp{Conn: conn, written: make(chan string, 1), through: make(chan error, 1)}
		return *to
	}
}

func writeAll(t *testing.T, to io.Writer, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if n, err := io.WriteString(to, text); n != len(text) || err != nil {
			t.Fatalf("writing %q: %d, %v", text, n, err)
		}
	}
}

func TestWhatIsWrittenWhileSomethingIsSentIsSentTogether(t *testing.T) {
	t.Parallel()
	var held *heldUp
	near, far := gathered(t, ample, hold(&held))
	writeAll(t, near, "first ")
	if got := <-held.written; got != "first " {
		t.Fatalf("sent %q first", got)
	}
	writeAll(t, near, "headers ", "body ", "next headers")
	held.through <- nil
	if got := <-held.written; got != "headers body next headers" {
		t.Errorf("sent %q then", got)
	}
	held.through <- nil
	const all = "first headers body next headers"
	got := make([]byte, len(all))
	if _, err := io.ReadFull(far, got); err != nil || string(got) != all {
		t.Errorf("%q has arrived (%v)", got, err)
	}
}

func TestAConnectionThatDoesNotTakeWhatIsWrittenEndsAndSaysWhy(t *testing.T) {
	t.Parallel()
	cut := errors.New("cut")
	var held *heldUp
	near, far := gathered(t, ample, hold(&held))
	writeAll(t, far, "farewell") // which says more than that it is cut
	writeAll(t, near, "first")
	<-held.written
	held.through <- cut
	farewell := make([]byte, len("farewell"))
	if _, err := io.ReadFull(near, farewell); err != nil || string(farewell) != "farewell" {
		t.Errorf("%q has come (%v)", farewell, err)
	}
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, cut) {
		t.Errorf("reading ended with %v", err)
	}
	if _, err := near.Write([]byte("second")); !errors.Is(err, cut) {
		t.Errorf("writing ended with %v", err)
	}
}

func TestAServerThatReadsNothingHoldsUpWritersForNoLongerThanTheLimit(t *testing.T) {
	t.Parallel()
	near, _ := gathered(t, 50*time.Millisecond, nil)
	piece := make([]byte, 64<<10)
	for range 1 << 10 { // far more than the system's buffers hold
		if _, err := near.Write(piece); err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("writing ended with %v", err)
			}
			return
		}
	}
	t.Error("64 MB were taken for a server that reads nothing")
}

func TestWhatWasWrittenIsSentBeforeTheConnectionIsClosed(t *testing.T) {
	t.Parallel()
	for range 100 {
		near, far := gathered(t, ample, nil)
		writeAll(t, near, "good", "bye")
		if err := near.Close(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(far); err != nil || string(got) != "goodbye" {
			t.Fatalf("%q has arrived (%v)", got, err)
		}
		if _, err := near.Write([]byte("more")); !errors.Is(err, net.ErrClosed) {
			t.Fatalf("writing to what is closed: %v", err)
		}
		_ = near.Close() // again: nothing
	}
}
