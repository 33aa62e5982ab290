package quick_test

import (
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/hack/loadgen/quick"
)

func TestItRunsAsManyTimesAsFast(t *testing.T) {
	t.Parallel()
	const speed, hour = 3_600_000, time.Hour // an hour in a millisecond
	origin := time.Now()
	c := quick.New(origin, speed)
	for name, wait := range map[string]func(){
		"After": func() { <-c.After(hour) },
		"Sleep": func() { c.Sleep(hour) },
		"AfterFunc": func() {
			called := make(chan struct{})
			c.AfterFunc(hour, func() { close(called) })
			<-called
		},
		"NewTimer": func() { <-c.NewTimer(hour).C() },
		"Reset": func() {
			timer := c.NewTimer(0)
			<-timer.C()
			timer.Reset(hour)
			<-timer.C()
		},
		"NewTicker": func() { <-c.NewTicker(hour).C() },
		"Tick":      func() { <-c.Tick(hour) },
	} {
		before, really := c.Now(), time.Now()
		wait()
		if passed := c.Since(before); passed < hour {
			t.Errorf("%s returned when %s had passed", name, passed)
		}
		if took := time.Since(really); took > time.Minute {
			t.Errorf("%s took %s of real time", name, took)
		}
	}
	if ahead := c.Now().Sub(origin); ahead < 6*hour {
		t.Errorf("it is %s ahead of its origin", ahead)
	}
}
