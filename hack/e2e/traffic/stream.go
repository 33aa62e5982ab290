package traffic

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/protocol/boxertest"
	"github.com/ens-operator/ens-operator/runtime/push"
)

const (
	// Interval is the time between two mails.
	Interval = 100 * time.Millisecond
	// settleLimit is how long everything may take to be told after the last mail: Exchange waits 30 s and then a minute
	// before it repeats what has failed.
	settleLimit = 150 * time.Second
	settlePoll  = 200 * time.Millisecond
)

// Stream is mail for a tenant's users, one after the other in turn, each with a subject of its own.
type Stream struct {
	tenant *Tenant
	users  []*User
	stop   context.CancelFunc
	ended  sync.WaitGroup

	// firstPost is how many posts Exchange had made before.
	firstPost int
	// firstCall is how many calls had come through the gateway before.
	firstCall int
	// summedBefore is what each phone had been told as numbers before.
	summedBefore map[string]int
	mails        []mail
	err          error
}

type mail struct {
	user    *User
	subject string
}

// Count is what became of a stream.
type Count struct {
	// Mails is how many arrived, Notifications how many notifications of them phones had to get: one for each phone.
	Mails, Notifications int
	// Gateway is how many of the notifications are for phones that have registered through the gateway.
	Gateway int
	// Summed are those that were told as a number, because several came at once.
	Summed int
	// Lost were not shown on a phone, Duplicates were shown more than once.
	Lost, Duplicates int
	// LostOf names the lost ones.
	LostOf []string
	// Posts is how many posts Exchange made, FailedPosts how many of them failed and were repeated, or given up.
	Posts, FailedPosts int
	// Reasons are why posts failed.
	Reasons []string
	// Calls is how many calls came through the gateway, Refused how many of them it or Exchange refused.
	Calls, Refused int
	// GivenUp is how many subscriptions Exchange has ended because posts had failed for too long.
	GivenUp int
	// Settled is how long it took after the last mail until everything was told.
	Settled time.Duration
}

// String is the count as it is printed.
func (c Count) String() string {
	text := fmt.Sprintf("%d mails, %d notifications due (%d told as a number): %d lost, %d shown twice; %d posts of Exchange, of which %d failed and %d were given up; all told %.1f s after the last mail",
		c.Mails, c.Notifications, c.Summed, c.Lost, c.Duplicates, c.Posts, c.FailedPosts, c.GivenUp, c.Settled.Seconds())
	if c.Gateway > 0 {
		text += fmt.Sprintf("; %d of the notifications through the gateway, by %d calls, of which %d were refused", c.Gateway, c.Calls, c.Refused)
	}
	return text
}

// Err says what of the count must not be.
func (c Count) Err() error {
	if c.Mails == 0 || c.Posts == 0 {
		return fmt.Errorf("there was no traffic, so nothing was shown: %s", c)
	}
	if c.Gateway > 0 && c.Calls == c.Refused {
		return fmt.Errorf("nothing came through the gateway: %s", c)
	}
	if c.Lost > 0 || c.Duplicates > 0 || c.GivenUp > 0 {
		return fmt.Errorf("notifications were lost, shown twice, or subscriptions given up: %s; lost: %s", c, strings.Join(c.LostOf, "; "))
	}
	return nil
}

// Start begins a stream for users whose phones are registered. End it.
func (t *Tenant) Start(ctx context.Context, users []*User) *Stream {
	ctx, stop := context.WithCancel(ctx)
	s := &Stream{
		tenant: t, users: users, stop: stop, summedBefore: map[string]int{},
		firstPost: len(t.Exchange.Callbacks()), firstCall: len(t.Gateway.Requests()),
	}
	for _, user := range users {
		for _, phone := range user.Phones {
			s.summedBefore[phone.DeviceToken] = summedUp(t.screen(phone.Platform, phone.DeviceToken))
		}
	}
	s.ended.Go(func() { s.run(ctx) })
	return s
}

// subjects are numbered over all streams of a run.
var subjects struct {
	sync.Mutex
	next int
}

func nextSubject() string {
	subjects.Lock()
	defer subjects.Unlock()
	subjects.next++
	return fmt.Sprintf("Mail number %d", subjects.next)
}

func (s *Stream) run(ctx context.Context) {
	tick := time.NewTicker(Interval)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		m := mail{user: s.users[i%len(s.users)], subject: nextSubject()}
		_, s.err = s.tenant.Exchange.Deliver(m.user.Address, ewstest.Mail{
			FromName: "Bob Builder", FromAddress: "bob@example.com", Subject: m.subject, Preview: "…",
		})
		if s.err != nil {
			return
		}
		s.mails = append(s.mails, m)
	}
}

// End stops the stream, waits until everything is told or cannot be any more, and counts.
func (s *Stream) End(ctx context.Context) (Count, error) {
	s.stop()
	s.ended.Wait()
	if s.err != nil {
		return Count{}, fmt.Errorf("delivering mail: %w", s.err)
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	tick := time.NewTicker(settlePoll)
	defer tick.Stop()
	for {
		count := s.count()
		count.Settled = time.Since(began)
		if count.Lost == 0 {
			return count, s.waitIdle(ctx)
		}
		select {
		case <-ctx.Done():
			return count, nil
		case <-tick.C:
		}
	}
}

// waitIdle waits for what Exchange still has to post, so that the next stream begins with nothing owed.
func (s *Stream) waitIdle(ctx context.Context) error {
	if err := s.tenant.Exchange.WaitIdle(ctx); err != nil {
		return fmt.Errorf("everything was told, but Exchange still repeats posts: %w", err)
	}
	return nil
}

// count compares the mails with what the phones show.
func (s *Stream) count() Count {
	count := Count{Mails: len(s.mails)}
	boxes := map[string]bool{} // other tenants may have the same Exchange
	for _, user := range s.users {
		boxes[user.Address] = true
		for _, phone := range user.Phones {
			s.countPhone(user, phone, &count)
		}
	}
	for _, post := range s.tenant.Exchange.Callbacks()[s.firstPost:] {
		if !boxes[post.Mailbox] {
			continue
		}
		count.Posts++
		if post.Err != nil {
			count.FailedPosts++
			if reason := post.Err.Error(); !slices.Contains(count.Reasons, reason) {
				count.Reasons = append(count.Reasons, reason)
			}
		}
	}
	for _, call := range s.tenant.Gateway.Requests()[s.firstCall:] {
		count.Calls++
		if call.Status != http.StatusOK {
			count.Refused++
		}
	}
	for _, subscription := range s.tenant.Exchange.Subscriptions() {
		if boxes[subscription.Mailbox] && subscription.Ended == ewstest.EndedByRetry {
			count.GivenUp++
		}
	}
	return count
}

// countPhone adds what one phone was due and what it shows. Of a burst the runtime tells three mails one by one, and of the
// others how many there are.
func (s *Stream) countPhone(user *User, phone *boxertest.Phone, count *Count) {
	shown := s.tenant.screen(phone.Platform, phone.DeviceToken)
	summed := summedUp(shown) - s.summedBefore[phone.DeviceToken]
	var missing []string
	for _, m := range s.mails {
		if m.user != user {
			continue
		}
		count.Notifications++
		if user.throughGateway {
			count.Gateway++
		}
		switch times := shown[m.subject]; {
		case times == 0:
			missing = append(missing, fmt.Sprintf("%q of %s, %s", m.subject, user.Address, phone.Platform))
		case times > 1:
			count.Duplicates++
		}
	}
	count.Summed += summed
	if lost := len(missing) - summed; lost > 0 {
		count.Lost += lost
		count.LostOf = append(count.LostOf, fmt.Sprintf("%d of %s", lost, strings.Join(missing, ", ")))
	} else {
		count.Duplicates -= lost // a number that is too high tells mails once more
	}
}

// summary is how the runtime tells of several mails at once.
var summary = regexp.MustCompile(`^(\d+) new messages$`)

// summedUp is how many mails a phone was told as numbers.
func summedUp(shown map[string]int) int {
	total := 0
	for text, times := range shown {
		if found := summary.FindStringSubmatch(text); found != nil {
			number, _ := strconv.Atoi(found[1]) // it has digits only
			total += number * times
		}
	}
	return total
}

// screen counts what a phone shows, by subject, or by title where there is none. A later notification under the same id takes
// the place of the former.
func (t *Tenant) screen(platform, token string) map[string]int {
	shown := map[string]int{}
	if platform == string(push.IOS) {
		for _, alert := range t.APNs.Screen(token).Alerts {
			shown[cmp.Or(alert.Subtitle, alert.Title)]++
		}
		return shown
	}
	seen := map[string]bool{}
	for _, message := range t.FCM.Messages(token) {
		var about struct {
			MessageID string `json:"messageId"`
		}
		if json.Unmarshal([]byte(message.Data["ens"]), &about) != nil || about.MessageID == "" || !seen[about.MessageID] {
			shown[cmp.Or(message.Data["subtitle"], message.Data["title"])]++
		}
		seen[about.MessageID] = true
	}
	return shown
}
