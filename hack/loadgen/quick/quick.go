// Package quick is a clock that runs faster than the real one, so that what takes the runtime minutes of waiting takes a load
// generator seconds. Two processes with the same origin and speed tell the same time.
package quick

import (
	"time"

	"k8s.io/utils/clock"
)

// Clock is such a clock. It implements clock.WithTickerAndDelayedExecution; what its timers' channels deliver is the real time.
type Clock struct {
	origin time.Time
	speed  int
}

var _ clock.WithTickerAndDelayedExecution = Clock{}

// New makes a clock that told the real time at origin and has run speed times as fast since; speed is at least 1.
func New(origin time.Time, speed int) Clock {
	return Clock{origin: origin.Round(0), speed: max(speed, 1)}
}

// Origin is when it told the real time.
func (c Clock) Origin() time.Time { return c.origin }

// Now implements clock.PassiveClock.
func (c Clock) Now() time.Time { return c.origin.Add(time.Since(c.origin) * time.Duration(c.speed)) }

// Since implements clock.PassiveClock.
func (c Clock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

// real is how long a duration of this clock really takes.
func (c Clock) real(d time.Duration) time.Duration {
	if d <= 0 {
		return d
	}
	return max(d/time.Duration(c.speed), 1)
}

// After implements clock.Clock.
func (c Clock) After(d time.Duration) <-chan time.Time { return time.After(c.real(d)) }

// Sleep implements clock.Clock.
func (c Clock) Sleep(d time.Duration) { time.Sleep(c.real(d)) }

// Tick implements clock.Clock.
func (c Clock) Tick(d time.Duration) <-chan time.Time { return time.Tick(c.real(d)) }

// NewTimer implements clock.Clock.
func (c Clock) NewTimer(d time.Duration) clock.Timer {
	return timer{clock.RealClock{}.NewTimer(c.real(d)), c}
}

// AfterFunc implements clock.WithDelayedExecution.
func (c Clock) AfterFunc(d time.Duration, f func()) clock.Timer {
	return timer{clock.RealClock{}.AfterFunc(c.real(d), f), c}
}

// NewTicker implements clock.WithTicker.
func (c Clock) NewTicker(d time.Duration) clock.Ticker { return clock.RealClock{}.NewTicker(c.real(d)) }

// timer is a timer of the real clock that is set by this one's durations.
type timer struct {
	clock.Timer
	clock Clock
}

// Reset implements clock.Timer.
func (t timer) Reset(d time.Duration) bool { return t.Timer.Reset(t.clock.real(d)) }
