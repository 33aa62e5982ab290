package server_test

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/protocol/boxertest"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

const (
	// stormPhones come at once, each of a user of its own, of whom stormCalls are heard at a time.
	stormPhones = 1000
	stormCalls  = 200
	// stormLimit is several times what the storm takes on two cores.
	stormLimit = 10 * time.Minute
	// stormHeartbeat is how often Exchange posts meanwhile.
	stormHeartbeat = 100 * time.Millisecond
)

// storm is many phones on their way in, and what they were answered.
type storm struct {
	calls chan struct{}

	mu sync.Mutex
	// answers counts by call, status and code.
	answers map[string]int
	faults  []string
}

// TestAStormOfNewPhones is not parallel, so that it has the machine to itself.
func TestAStormOfNewPhones(t *testing.T) {
	if testing.Short() {
		t.Skip("a storm takes a minute of both cores")
	}
	x := runtimetest.New(t, runtimetest.Options{
		Configure: func(c *config.Config) { c.KeyPool = config.KeyPool{} }, // the defaults, of which nothing has been made yet
		Exchange:  ewstest.Options{Logf: seedOnly(t)},
	})
	phones := make([]*boxertest.Phone, stormPhones)
	for i := range phones {
		phones[i] = x.Phone(fmt.Sprintf("user%d@example.com", i), push.IOS)
	}
	replica := x.Start(t)
	runtimetest.MustRegister(t, x.Phone(alice, push.IOS), 7)
	heard(t, x, "OK")
	earlier := x.Exchange.Subscriptions()[0]
	body := heartbeat(t, x, earlier)
	if pairs := storetest.Value[int](t, x.Schema, `SELECT count(*) FROM key_pool`); pairs > stormPhones/20 {
		t.Fatalf("the pool has %d pairs already; the test shows nothing", pairs)
	}

	ctx, cancel := context.WithTimeout(t.Context(), stormLimit)
	defer cancel()
	s := &storm{calls: make(chan struct{}, stormCalls), answers: map[string]int{}}
	transport := &http.Transport{MaxIdleConnsPerHost: stormCalls}
	defer transport.CloseIdleConnections()
	began := time.Now()
	var coming sync.WaitGroup
	for _, phone := range phones {
		phone.BaseURL = "http://" + replica.Address + runtimetest.BasePath
		phone.Client = &http.Client{Transport: transport}
		coming.Go(func() { s.enter(ctx, phone) })
	}
	over := make(chan struct{})
	go func() { coming.Wait(); close(over) }()
	posts, slowest := postUntil(ctx, t, x, earlier.URL, body, over)

	t.Logf("%d phones were in after %s: %v", stormPhones, time.Since(began).Round(time.Second), s.answers)
	t.Logf("meanwhile %d posts of Exchange were answered OK, the slowest after %s", posts, slowest.Round(time.Millisecond))
	t.Logf("of the pairs %s were made on the spot, %s in advance",
		exposed(t, replica, "ens_key_pool_inline_total"), exposed(t, replica, "ens_key_pool_refilled_total"))
	for _, fault := range s.faults {
		t.Error(fault)
	}
	allSubscribed(t, x, phones)
}

// enter brings a phone in as Boxer does: what is answered 429 or 503 is asked again after as long as it was told.
func (s *storm) enter(ctx context.Context, phone *boxertest.Phone) {
	for _, step := range []struct {
		name string
		call func(context.Context) (boxertest.Answer, error)
	}{{"getpublickey", phone.PublicKey}, {"registerdevicev2", phone.Register}} {
		for {
			again, err := s.ask(ctx, step.name, step.call)
			if err != nil {
				s.fault(err)
				return
			}
			if again == 0 {
				break
			}
			timer := time.NewTimer(again)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				s.fault(fmt.Errorf("%s: still refused when the time was up", step.name))
				return
			}
		}
	}
}

// ask makes a call and returns how long to wait before it is made again, 0 if it succeeded.
func (s *storm) ask(ctx context.Context, name string, call func(context.Context) (boxertest.Answer, error)) (time.Duration, error) {
	s.calls <- struct{}{}
	defer func() { <-s.calls }()
	answer, err := call(ctx)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	s.mu.Lock()
	s.answers[fmt.Sprintf("%s %d/%d", name, answer.Status, answer.Code)]++
	s.mu.Unlock()
	switch answer.Status {
	case http.StatusOK:
		return 0, nil
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		seconds, err := strconv.Atoi(answer.RetryAfter)
		if err != nil || seconds <= 0 || answer.Code != 32 {
			return 0, fmt.Errorf("%s was answered %d/%d with the Retry-After %q", name, answer.Status, answer.Code, answer.RetryAfter)
		}
		return time.Duration(seconds) * time.Second, nil
	default:
		return 0, fmt.Errorf("%s was answered %d/%d %q", name, answer.Status, answer.Code, answer.Message)
	}
}

func (s *storm) fault(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, err.Error())
}

// postUntil lets Exchange post to a webhook until over, at least once, and wants each post answered OK at its first try.
func postUntil(ctx context.Context, t *testing.T, x *runtimetest.Tenant, webhook string, body []byte, over <-chan struct{}) (posts int, slowest time.Duration) {
	t.Helper()
	ticker := time.NewTicker(stormHeartbeat)
	defer ticker.Stop()
	for {
		began := time.Now()
		if c := x.Exchange.Post(ctx, webhook, body); c.Reply != "OK" {
			t.Errorf("during the storm a post is answered %d %q: %v", c.Status, c.Reply, c.Err)
		}
		posts, slowest = posts+1, max(slowest, time.Since(began))
		select {
		case <-over:
			return posts, slowest
		case <-ticker.C:
		}
	}
}

// allSubscribed wants exactly one living subscription of each phone's user at Exchange, and the same on record.
func allSubscribed(t *testing.T, x *runtimetest.Tenant, phones []*boxertest.Phone) {
	t.Helper()
	living := map[string]int{}
	for _, s := range x.Exchange.Subscriptions() {
		if s.Ended == "" {
			living[s.Mailbox]++
		}
	}
	for _, phone := range phones {
		if living[phone.Address] != 1 {
			t.Errorf("the user of one phone has %d living subscriptions at Exchange", living[phone.Address])
		}
	}
	const complete = `SELECT count(*) FROM users u JOIN devices d ON d.user_id = u.id
JOIN subscriptions s ON s.user_id = u.id AND s.state = 'active' WHERE u.registered_at IS NOT NULL`
	if users := storetest.Value[int](t, x.Schema, complete); users != len(phones)+1 {
		t.Errorf("%d users are on record with device and subscription, want the %d of the storm and the one before it", users, len(phones))
	}
}

// seedOnly logs the fake Exchange's seed and leaves its requests out: there are too many of them.
func seedOnly(t *testing.T) func(format string, args ...any) {
	return func(format string, args ...any) {
		if strings.Contains(format, "seed") {
			t.Logf(format, args...)
		}
	}
}

// exposed is the value of a series as the replica's metrics have it, empty if there is none.
func exposed(t *testing.T, replica *runtimetest.Replica, series string) string {
	t.Helper()
	for line := range strings.Lines(get(t, "http://"+replica.Metrics+"/metrics")) {
		if value, found := strings.CutPrefix(line, series+" "); found {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
