package autodiscover_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/ens-operator/ens-operator/runtime/ews/autodiscover"
	"github.com/ens-operator/ens-operator/runtime/ews/autodiscover/autodiscovertest"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

const (
	cacheTime      = time.Hour
	failureTime    = time.Minute
	requestTimeout = 5 * time.Second
	findTimeout    = 20 * time.Second
)

func newClock() *clocktesting.FakeClock {
	return clocktesting.NewFakeClock(time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC))
}

func TestAnEndpointHoldsForTheDomainUntilItExpires(t *testing.T) {
	t.Parallel()
	for _, form := range autodiscovertest.AllForms {
		t.Run(string(form), func(t *testing.T) {
			t.Parallel()
			c := newClock()
			s := newScene(t, withClock(c))
			s.host(auto, form)
			if endpoint, err := s.findAlice(t); err != nil || endpoint != "mail" {
				t.Fatalf("got %q, %v", endpoint, err)
			}
			asked := len(s.Requests())
			s.AddUser(autodiscovertest.User{Address: bob, Password: bobPassword, EWSURL: secondURL})

			c.Step(cacheTime - time.Second)
			if endpoint, err := s.findBob(t); err != nil || endpoint != "mail" || len(s.Requests()) != asked {
				t.Errorf("before the end Bob got %q, %v by %d requests", endpoint, err, len(s.Requests())-asked)
			}
			c.Step(time.Second)
			if endpoint, err := s.findBob(t); err != nil || endpoint != "second" {
				t.Errorf("after the end Bob got %q, %v", endpoint, err)
			}
		})
	}
}

func TestSubdomainsHaveEndpointsOfTheirOwn(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.host(auto, autodiscovertest.JSON)
	s.host("autodiscover.sales.example.com", autodiscovertest.JSON)
	s.AddUser(autodiscovertest.User{Address: "bob@sales.example.com", EWSURL: secondURL})
	for address, want := range map[string]string{alice: "mail", "bob@sales.example.com": "second", "alice.adams@EXAMPLE.com": "mail"} {
		if endpoint, err := s.find(t, address, basic("x", "y"), false); err != nil || endpoint != want {
			t.Errorf("got %q, %v, want %q", endpoint, err, want)
		}
	}
}

func TestAFreshAnswerChangesOthersOnlyIfAnybodyMayHaveIt(t *testing.T) {
	t.Parallel()
	for form, forOthers := range map[autodiscovertest.Form]string{
		autodiscovertest.JSON: "second", autodiscovertest.SOAP: "mail", autodiscovertest.POX: "mail",
	} {
		t.Run(string(form), func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			s.host(auto, form)
			if endpoint, err := s.findAlice(t); err != nil || endpoint != "mail" {
				t.Fatalf("got %q, %v", endpoint, err)
			}
			s.AddUser(autodiscovertest.User{Address: bob, Password: bobPassword, EWSURL: secondURL})
			if endpoint, err := s.find(t, bob, basic(bob, bobPassword), true); err != nil || endpoint != "second" {
				t.Errorf("Bob's fresh answer is %q, %v", endpoint, err)
			}
			if endpoint, err := s.findAlice(t); err != nil || endpoint != forOthers {
				t.Errorf("Alice then got %q, %v, want %q", endpoint, err, forOthers)
			}
		})
	}
}

// patience is a request to a tarpit, as `host form`, and how long the clock goes on after it arrived.
type patience struct {
	asked string
	step  time.Duration
}

// findThroughTarpits looks for Alice's endpoint, and lets the clock go on whenever a tarpit is asked.
func (s *scene) findThroughTarpits(t *testing.T, c *clocktesting.FakeClock, waits ...patience) error {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := s.discoverer.Find(testContext(t), secret.FromString(alice), basic(`EXAMPLE\alice`, alicePassword), activityID, false)
		done <- err
	}()
	for _, wait := range waits {
		_, err := s.WaitRequest(testContext(t), func(r autodiscovertest.Request) bool { return r.Host+" "+string(r.Form) == wait.asked })
		if err != nil {
			t.Fatal(err)
		}
		c.Step(wait.step)
	}
	return <-done
}

func TestATarpitIsLeftAlone(t *testing.T) {
	t.Parallel()
	for _, form := range autodiscovertest.AllForms {
		t.Run(string(form), func(t *testing.T) {
			t.Parallel()
			c := newClock()
			s := newScene(t, withClock(c))
			s.faulty(auto, form, autodiscovertest.Fault{Tarpit: true})
			err := s.findThroughTarpits(t, c, patience{auto + " " + string(form), requestTimeout})
			if !errors.Is(err, autodiscover.ErrNotLocated) || !strings.Contains(err.Error(), "did not answer within 5s") {
				t.Fatalf("got %v", err)
			}
			asked := len(s.Requests())
			// The next ones are told at once, until a minute is over.
			c.Step(failureTime - time.Second)
			if _, err := s.findBob(t); !errors.Is(err, autodiscover.ErrNotLocated) || !strings.Contains(err.Error(), "did not answer within 5s") {
				t.Errorf("Bob got %v", err)
			}
			if _, err := s.find(t, bob, basic(bob, bobPassword), true); !errors.Is(err, autodiscover.ErrNotLocated) {
				t.Errorf("Bob's fresh answer is %v", err)
			}
			if again := len(s.Requests()); again != asked {
				t.Errorf("the tarpit was asked %d times more", again-asked)
			}
			s.host(auto, form)
			c.Step(time.Second)
			if endpoint, err := s.findBob(t); err != nil || endpoint != "mail" {
				t.Errorf("after a minute Bob got %q, %v", endpoint, err)
			}
		})
	}
}

func TestMissingServiceRecordsAreNotLookedForAtOnceAgain(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newScene(t, withClock(c))
	s.host("cas.example.com", autodiscovertest.POX)
	if _, err := s.findAlice(t); !errors.Is(err, autodiscover.ErrNotLocated) || !strings.Contains(err.Error(), "service records of example.com do not exist") {
		t.Fatalf("got %v", err)
	}
	s.AddSRV(domain, "cas.example.com", 443)
	c.Step(failureTime - time.Second)
	if _, err := s.findAlice(t); !errors.Is(err, autodiscover.ErrNotLocated) {
		t.Errorf("within a minute got %v", err)
	}
	c.Step(time.Second)
	if endpoint, err := s.findAlice(t); err != nil || endpoint != "mail" {
		t.Errorf("after a minute got %q, %v", endpoint, err)
	}
}

func TestATarpitDoesNotKeepFromOtherHosts(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newScene(t, withClock(c))
	s.AddHost(bare, autodiscovertest.Host{
		Forms:  autodiscovertest.AllForms,
		Faults: map[autodiscovertest.Form]autodiscovertest.Fault{autodiscovertest.JSON: {Tarpit: true}},
	})
	s.host(auto, autodiscovertest.POX)
	if err := s.findThroughTarpits(t, c, patience{bare + " json", requestTimeout}); err != nil {
		t.Errorf("got %v", err)
	}
}

func TestOneFindIsOverAfterTwentySeconds(t *testing.T) {
	t.Parallel()
	c := newClock()
	// A second passes at the first host, so that the end of the whole comes before that of the last request.
	takesASecond := func(_ *autodiscovertest.Options, o *autodiscover.Options) {
		o.Endpoint = func(string) string { c.Step(time.Second); return "" }
	}
	s := newScene(t, withClock(c), takesASecond)
	s.faulty(bare, autodiscovertest.JSON, autodiscovertest.Fault{Content: []byte(`{"Url":"` + cloudURL + `"}`)})
	s.faulty(auto, autodiscovertest.JSON, autodiscovertest.Fault{Tarpit: true})
	for _, name := range []string{"one.example.com", "two.example.com", "three.example.com", "four.example.com"} {
		s.faulty(name, autodiscovertest.POX, autodiscovertest.Fault{Tarpit: true})
		s.AddSRV(domain, name, 443)
	}
	err := s.findThroughTarpits(t, c,
		patience{auto + " json", requestTimeout}, patience{"one.example.com pox", requestTimeout},
		patience{"two.example.com pox", requestTimeout}, patience{"three.example.com pox", findTimeout - 3*requestTimeout - time.Second})
	if err == nil || !strings.Contains(err.Error(), "did not answer within 20s") {
		t.Errorf("got %v", err)
	}
	if slices.Contains(s.asked(), "four.example.com pox") {
		t.Error("a host was asked after the end")
	}
}

func TestAFindThatIsGivenUpBlamesNoHost(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.faulty(auto, autodiscovertest.SOAP, autodiscovertest.Fault{Tarpit: true})
	ctx, cancel := context.WithCancelCause(testContext(t))
	done := make(chan error, 1)
	go func() {
		_, err := s.discoverer.Find(ctx, secret.FromString(alice), basic(`EXAMPLE\alice`, alicePassword), activityID, false)
		done <- err
	}()
	if _, err := s.WaitRequest(testContext(t), func(r autodiscovertest.Request) bool { return r.Form == autodiscovertest.SOAP }); err != nil {
		t.Fatal(err)
	}
	hungUp := errors.New("the phone hung up")
	cancel(hungUp)
	if err := <-done; !errors.Is(err, hungUp) || errors.Is(err, autodiscover.ErrNotLocated) {
		t.Errorf("got %v", err)
	}
	s.host(auto, autodiscovertest.SOAP)
	if endpoint, err := s.findBob(t); err != nil || endpoint != "mail" {
		t.Errorf("Bob got %q, %v", endpoint, err)
	}
}

func TestWhoWaitedForOneThatGaveUpAsksAgain(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.faulty(auto, autodiscovertest.JSON, autodiscovertest.Fault{Tarpit: true})
	ctx, cancel := context.WithCancel(testContext(t))
	var group sync.WaitGroup
	group.Go(func() {
		_, err := s.discoverer.Find(ctx, secret.FromString(alice), basic(`EXAMPLE\alice`, alicePassword), activityID, false)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Alice got %v", err)
		}
	})
	if _, err := s.WaitRequest(testContext(t), func(r autodiscovertest.Request) bool { return r.Host == auto }); err != nil {
		t.Fatal(err)
	}
	s.host(auto, autodiscovertest.JSON)
	for range 10 {
		group.Go(func() {
			if endpoint, err := s.findBob(t); err != nil || endpoint != "mail" {
				t.Errorf("Bob got %q, %v", endpoint, err)
			}
		})
	}
	cancel()
	group.Wait()
}

func TestAFreshAnswerDoesNotWaitForThatOfOthers(t *testing.T) {
	t.Parallel()
	s := newScene(t, withClock(newClock()))
	s.faulty(auto, autodiscovertest.JSON, autodiscovertest.Fault{Tarpit: true})
	ctx, cancel := context.WithCancel(testContext(t))
	var group sync.WaitGroup
	group.Go(func() {
		_, err := s.discoverer.Find(ctx, secret.FromString(alice), basic(`EXAMPLE\alice`, alicePassword), activityID, false)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Alice got %v", err)
		}
	})
	if _, err := s.WaitRequest(testContext(t), func(r autodiscovertest.Request) bool { return r.Host == auto }); err != nil {
		t.Fatal(err)
	}
	s.host(auto, autodiscovertest.JSON)
	if endpoint, err := s.find(t, bob, basic(bob, bobPassword), true); err != nil || endpoint != "mail" {
		t.Errorf("Bob got %q, %v", endpoint, err)
	}
	cancel()
	group.Wait()
}

func TestAStormOfPhonesIsNoStormOfRequests(t *testing.T) {
	t.Parallel()
	const phones, atOnce = 200, 16
	for form, most := range map[autodiscovertest.Form]int{
		// Shared, but who looks between two flights asks again.
		autodiscovertest.JSON: atOnce,
		// Each of those who ask at once needs a request without and one with the credential.
		autodiscovertest.SOAP: 2 * atOnce,
	} {
		t.Run(string(form), func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			s.host(auto, form)
			var group sync.WaitGroup
			for range phones {
				group.Go(func() {
					if endpoint, err := s.findBob(t); err != nil || endpoint != "mail" {
						t.Errorf("got %q, %v", endpoint, err)
					}
				})
			}
			group.Wait()
			asked := 0
			for _, r := range s.Requests() {
				if r.Form == form {
					asked++
				}
			}
			if asked > most {
				t.Errorf("%d phones made %d requests, want at most %d", phones, asked, most)
			}
		})
	}
}

func TestAStormAtATarpitAsksItOnceForAll(t *testing.T) {
	t.Parallel()
	const phones = 100
	c := newClock()
	s := newScene(t, withClock(c))
	s.faulty(auto, autodiscovertest.JSON, autodiscovertest.Fault{Tarpit: true})
	var group sync.WaitGroup
	failures := make(chan error, phones)
	for range phones {
		group.Go(func() {
			_, err := s.findBob(t)
			failures <- err
		})
	}
	if _, err := s.WaitRequest(testContext(t), func(r autodiscovertest.Request) bool { return r.Host == auto }); err != nil {
		t.Fatal(err)
	}
	c.Step(requestTimeout)
	group.Wait()
	for range phones {
		if err := <-failures; !errors.Is(err, autodiscover.ErrNotLocated) {
			t.Errorf("got %v", err)
		}
	}
	if requests := s.Requests(); len(requests) != 1 {
		t.Errorf("the tarpit was asked %d times", len(requests))
	}
}

func TestConcurrentUsersGetWhatTheirOwnCredentialGets(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.host(auto, autodiscovertest.SOAP, autodiscovertest.POX)
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if endpoint, err := s.findAlice(t); err != nil || endpoint != "mail" {
				t.Errorf("Alice got %q, %v", endpoint, err)
			}
		})
		group.Go(func() {
			// Fresh, so that Alice's answer does not hold for Bob.
			if _, err := s.find(t, bob, basic(bob, "not bob's"), true); !errors.Is(err, autodiscover.ErrUnauthorized) {
				t.Errorf("Bob with a wrong password got %v", err)
			}
		})
	}
	group.Wait()
}

func TestAMailboxThatIsNotThereIsNoReasonToRefuseOthers(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.host(auto, autodiscovertest.JSON)
	if _, err := s.find(t, "nobody@example.com", basic("nobody", "x"), false); !errors.Is(err, autodiscover.ErrNotLocated) {
		t.Errorf("got %v", err)
	}
	if endpoint, err := s.findAlice(t); err != nil || endpoint != "mail" {
		t.Errorf("Alice got %q, %v", endpoint, err)
	}
}
