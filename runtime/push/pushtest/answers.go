package pushtest

import (
	"errors"
	"net/http"
	"sync"
	"testing"

	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/internal/fake"
)

// private is a text of the notification that the answers of tables may quote and errors must not.
const private = "the text of the mail"

// Answer is one of a service, and what a provider must make of it.
type Answer struct {
	// Action is what the service answers so; empty is everything.
	Action string
	Fault  fake.Fault
	Want   push.Outcome
	// Lasting says that every push would meet it.
	Lasting bool
	Reason  string
}

// Scene is a provider with the fake it talks to, and a phone.
type Scene struct {
	Provider push.Provider
	Phone    push.Device
	// OnRequest is the fake's.
	OnRequest func(func(fake.Request) *fake.Fault)
	// Log is what the provider has logged so far; nil if it logs nothing.
	Log func() string
}

// RunAnswers has each answer given to a push. Provider is its name. A provider of start's must give up within seconds.
func RunAnswers(t *testing.T, provider string, answers map[string]Answer, start func(*testing.T) Scene) {
	t.Helper()
	// Not subtests: much of the time goes into waiting before retries, and subtests in parallel are limited by cores.
	var checks sync.WaitGroup
	defer checks.Wait()
	for name, answer := range answers {
		s := start(t)
		s.OnRequest(func(r fake.Request) *fake.Fault {
			if answer.Action == "" || answer.Action == r.Action {
				return &answer.Fault
			}
			return nil
		})
		checks.Go(func() {
			mail := Mail()
			mail.Subtitle = private
			err := s.Provider.Push(t.Context(), s.Phone, mail)
			refusal, ok := errors.AsType[*push.Error](err)
			if !ok || refusal.Outcome != answer.Want || refusal.Lasting != answer.Lasting || refusal.Reason != answer.Reason || refusal.Provider != provider {
				t.Errorf("%s: err = %#v, want %s %s", name, refusal, answer.Want, answer.Reason)
				return
			}
			if answer.Fault.Status != http.StatusOK && refusal.Status != answer.Fault.Status {
				t.Errorf("%s: status = %d, want %d", name, refusal.Status, answer.Fault.Status)
			}
			text := err.Error()
			if s.Log != nil {
				text += s.Log()
			}
			CheckDiscreet(t, text, s.Phone, mail)
		})
	}
}
