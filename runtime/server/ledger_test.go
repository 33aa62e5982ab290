package server_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/protocol/boxertest"
	"github.com/ens-operator/ens-operator/runtime/push"
)

// ledger keeps the books of a test that disturbs the runtime: which mails came, and what each phone was sent of them.
type ledger struct {
	*runtimetest.Tenant
	phones []*boxertest.Phone
	// mails are the item ids by the user's address.
	mails map[string][]string
	beat  time.Time
}

func newLedger(x *runtimetest.Tenant) *ledger {
	return &ledger{Tenant: x, mails: map[string][]string{}}
}

// phone adds a phone that is to be told its user's mails.
func (l *ledger) phone(address string, platform push.Platform) *boxertest.Phone {
	phone := l.Phone(address, platform)
	l.phones = append(l.phones, phone)
	return phone
}

// mail lets a mail arrive that all phones of its user are to be told of.
func (l *ledger) mail(t *testing.T, address string) (item string) {
	t.Helper()
	number := len(l.mails[address]) + 1
	item, err := l.Exchange.Deliver(address, ewstest.Mail{FromName: fmt.Sprintf("Sender %d", number), Subject: "Subject"})
	if err != nil {
		t.Fatal(err)
	}
	l.mails[address] = append(l.mails[address], item)
	return item
}

// heartbeatPause is how often pulse has Exchange send heartbeats at most.
const heartbeatPause = 200 * time.Millisecond

// pulse has Exchange send heartbeats: each takes up what is owed, and the test need not wait a quarter of an hour.
func (l *ledger) pulse() {
	if time.Since(l.beat) < heartbeatPause {
		return
	}
	l.beat = time.Now()
	beaten := map[string]bool{}
	for _, phone := range l.phones {
		if !beaten[phone.Address] {
			l.Exchange.Heartbeat(phone.Address)
			beaten[phone.Address] = true
		}
	}
}

// sent counts what the phone was sent by what it is about, which is what makes two notifications one on its screen: the
// collapse id on an iPhone, the mail's id for the Android app. badge is the number that it shows.
func (l *ledger) sent(phone *boxertest.Phone) (about map[string]int, badge int) {
	about = map[string]int{}
	if phone.Platform == string(push.IOS) {
		for _, n := range l.APNs.Notifications(phone.DeviceToken) {
			if n.APS.Alert != nil {
				about[n.CollapseID]++
			}
		}
		return about, l.APNs.Screen(phone.DeviceToken).Badge
	}
	for _, m := range l.FCM.Messages(phone.DeviceToken) {
		if unread, err := strconv.Atoi(m.Data["unread"]); err == nil {
			badge = unread
		}
		var reference push.Reference
		if json.Unmarshal([]byte(m.Data["ens"]), &reference) == nil && reference.Event == push.EventNewMail {
			about[collapseID(reference.MessageID)]++
		}
	}
	return about, badge
}

// collapseID is that of a mail's notification.
func collapseID(item string) string {
	sum := sha256.Sum256([]byte(item))
	return hex.EncodeToString(sum[:16])
}

// lost counts the mails that a phone was not told of, a phone each.
func (l *ledger) lost() (lost int) {
	for _, phone := range l.phones {
		about, _ := l.sent(phone)
		for _, item := range l.mails[phone.Address] {
			if about[collapseID(item)] == 0 {
				lost++
			}
		}
	}
	return lost
}

// unsettled says what is not as it should be once nothing disturbs the runtime any more, empty if all is well.
func (l *ledger) unsettled(t *testing.T) string {
	t.Helper()
	if lost := l.lost(); lost > 0 {
		return fmt.Sprintf("%d notifications are missing", lost)
	}
	for i, phone := range l.phones {
		if _, badge := l.sent(phone); badge != l.Exchange.Unread(phone.Address) {
			return fmt.Sprintf("phone %d (%s) shows the badge %d, want %d", i+1, phone.Platform, badge, l.Exchange.Unread(phone.Address))
		}
	}
	var owed int
	err := l.Schema.Looking.QueryRow(t.Context(), `SELECT count(*) FROM pending WHERE done_at IS NULL`).Scan(&owed)
	if err != nil { // the test may have restarted Postgres
		return err.Error()
	}
	if owed > 0 {
		return fmt.Sprintf("%d rows of the journal are owed", owed)
	}
	return ""
}

// books are the sums of a test.
type books struct{ crashes, mails, pushes, repeats, lost int }

func (b *books) add(other books) {
	b.crashes += other.crashes
	b.mails += other.mails
	b.pushes += other.pushes
	b.repeats += other.repeats
	b.lost += other.lost
}

func (b books) String() string {
	return fmt.Sprintf("%d mails, %d pushes that told of them, %d of these repeats that the phone shows as one, %d lost",
		b.mails, b.pushes, b.repeats, b.lost)
}

// close sums up, and wants no phone to have been shown anything but the mails.
func (l *ledger) close(t *testing.T) (b books) {
	t.Helper()
	known := map[string]bool{}
	for _, items := range l.mails {
		b.mails += len(items)
		for _, item := range items {
			known[collapseID(item)] = true
		}
	}
	for _, phone := range l.phones {
		about, _ := l.sent(phone)
		for id, count := range about {
			b.pushes += count
			b.repeats += count - 1
			if !known[id] {
				t.Errorf("a phone was shown something that is no mail, or several as one")
			}
		}
	}
	b.lost = l.lost()
	return b
}

// scenesAtOnce is how many scenes sideBySide runs at a time.
const scenesAtOnce = 8

// sideBySide runs a test for each scene, more at a time than the flag says: they wait rather than work.
func sideBySide[T any](t *testing.T, scenes map[string]T, run func(*testing.T, T)) {
	t.Helper()
	slots := make(chan struct{}, scenesAtOnce)
	var running sync.WaitGroup
	for name, scene := range scenes {
		running.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			t.Run(name, func(t *testing.T) { run(t, scene) })
		})
	}
	running.Wait()
}
