package autodiscover

import (
	"strconv"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"
)

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	const more = 3 * maxRemembered
	c := clocktesting.NewFakePassiveClock(time.Unix(0, 0))
	m := newMemory[int](c)
	for i := range more {
		// What comes later lives longer.
		m.put(strconv.Itoa(i), i, time.Hour+time.Duration(i)*time.Second)
	}
	kept := 0
	for i := range more {
		if value, ok := m.get(strconv.Itoa(i)); ok && value == i {
			kept++
		}
	}
	if _, ok := m.get(strconv.Itoa(more - 1)); kept != maxRemembered || !ok {
		t.Errorf("%d of %d are kept, the last one among them: %v", kept, more, ok)
	}
	c.SetTime(time.Unix(0, 0).Add(2 * time.Hour))
	m.put("new", 1, time.Minute)
	if got := len(m.entries); got >= maxRemembered {
		t.Errorf("%d entries are held after some have expired", got)
	}
}
