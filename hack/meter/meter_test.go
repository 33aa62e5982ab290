package meter_test

import (
	"os"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/hack/meter"
)

func TestCPUTimeIsWhatAProcessTakes(t *testing.T) {
	t.Parallel()
	before, err := meter.CPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	reference, err := meter.Reference() // takes a second of it
	if err != nil {
		t.Fatal(err)
	}
	after, err := meter.CPUWithChildren(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if took := after - before; took < 500*time.Millisecond {
		t.Errorf("measuring the reference took %s of CPU time", took)
	}
	if reference < 50*time.Microsecond || reference > 50*time.Millisecond {
		t.Errorf("one private operation of RSA-2048 takes %s", reference)
	}
	if _, err := meter.CPU(1 << 30); err == nil {
		t.Error("a process that does not exist has a CPU time")
	}
}

func TestMemoryGrowsWithWhatIsHeld(t *testing.T) {
	t.Parallel()
	before, err := meter.Memory(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	const size = 256 << 20
	held := make([]byte, size)
	for i := 0; i < size; i += os.Getpagesize() {
		held[i] = 1
	}
	after, err := meter.Memory(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if grown := after - before; grown < size/2 || held[0] != 1 {
		t.Errorf("memory grew by %d bytes, %d are held", grown, size)
	}
}

func TestPercentiles(t *testing.T) {
	t.Parallel()
	var s meter.Samples
	if got := s.Percentile(50); got != 0 {
		t.Errorf("of nothing: %s", got)
	}
	for i := range 100 {
		s.Add(time.Duration(100 - i))
	}
	for p, want := range map[float64]time.Duration{0: 1, 50: 51, 99: 100, 100: 100} {
		if got := s.Percentile(p); got != want {
			t.Errorf("%v %%: got %d, want %d", p, got, want)
		}
	}
	if s.Count() != 100 {
		t.Errorf("%d samples", s.Count())
	}
}
