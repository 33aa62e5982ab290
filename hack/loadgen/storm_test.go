package main

import (
	"testing"
	"time"
)

// TestAFewPhonesStorm runs the registrations small: everybody gets in, whatever the pool holds, and is told their own mail; who
// loses the subscription or changes the password comes back.
func TestAFewPhonesStorm(t *testing.T) {
	t.Parallel()
	s := settings{users: 60, inFlight: 8, exchangeDelay: time.Millisecond, providerDelay: time.Millisecond, only: "filled,default,lost"}
	r, err := storm(t.Context(), s, t.Output())
	r.print(t.Output())
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range r.Figures {
		values[f.Stage+"/"+f.Name] = f.Value
	}
	for name, want := range map[string]float64{
		"filled/phones that registered": 60, "filled/calls that failed": 0, "filled/calls that were told to come again": 0,
		"filled/phones that were told of their mail":       60,
		"default/phones that registered":                   60,
		"default/calls that failed":                        0,
		"default/phones that were told of their mail":      60,
		"lost/phones that were asked and registered again": 21, // 20 subscriptions, one password
	} {
		if got, measured := values[name]; !measured || got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}
