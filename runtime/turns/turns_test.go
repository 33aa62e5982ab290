package turns_test

import (
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/turns"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func TestEachComesAWhileAfterTheOneBefore(t *testing.T) {
	t.Parallel()
	var given turns.Turns
	for n := range 100 {
		if got, want := given.After(start, time.Second, 10), time.Second+time.Duration(n)*time.Second/10; got != want {
			t.Fatalf("number %d is told to come again after %s, want %s", n, got, want)
		}
	}
	if got := given.After(start.Add(time.Minute), time.Second, 10); got != time.Second {
		t.Errorf("after the rush one is told to come again after %s", got)
	}
}

// However many are turned away, some of them come in every second, and those who come later owe nothing to those before.
func TestThoseForWhomThereIsNoTurnDoNotComeAllAtOnce(t *testing.T) {
	t.Parallel()
	var given turns.Turns
	const least, many = 5 * time.Second, 20_000
	coming := map[time.Duration]int{}
	for range many {
		after := given.After(start, least, 25)
		if after < least || after > turns.Longest {
			t.Fatalf("one is told to come again after %s", after)
		}
		coming[after.Truncate(time.Second)]++
	}
	for second := least; second <= turns.Longest; second += time.Second {
		if n := coming[second]; n < 25 && second < turns.Longest || n > 3*many/115 {
			t.Errorf("%d of %d come after %s", n, many, second)
		}
	}
	if after := given.After(start.Add(turns.Longest), least, 25); after != least {
		t.Errorf("when all have had their turn, one is told to come again after %s", after)
	}
}
