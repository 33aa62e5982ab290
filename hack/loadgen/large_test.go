package main

import (
	"testing"
	"time"
)

// TestAFewUsersAreFilledAndAge runs what is for a million users, and a day's heartbeats, small.
func TestAFewUsersAreFilledAndAge(t *testing.T) {
	t.Parallel()
	s := settings{users: 100, inFlight: 8, stage: 300 * time.Millisecond, exchangeDelay: time.Millisecond, providerDelay: time.Millisecond}
	r, err := large(t.Context(), s, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	aged, err := aging(t.Context(), s, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	aged.print(t.Output())
	r.print(t.Output())
	values := map[string]float64{}
	for _, f := range append(r.Figures, aged.Figures...) {
		values[f.Stage+"/"+f.Name] = f.Value
	}
	for _, name := range []string{
		"database/users, with indexes", "database/pending, with indexes", "database/all tables, with indexes", "day/memory", "day/rate",
		"sweep/sweep, nobody is lost", "sweep/sweep, one of a hundred users is lost", "sweep/sweep, everybody is lost", "sweep/sweeps meanwhile",
		"sweep/answer without a sweep, p99", "sweep/answer while one sweep follows the other, p99", "day/user_state: updates",
	} {
		if values[name] <= 0 {
			t.Errorf("%s is %v", name, values[name])
		}
	}
	if posts := values["day/posts"]; posts < 48*100 {
		t.Errorf("the day of 100 users had %v heartbeats", posts)
	}
}
