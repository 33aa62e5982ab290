package apns_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/apns"
)

// BenchmarkHotPush composes what Apple is sent of a mail, and of one whose preview is too long. make bench-hot holds what it
// allocates.
func BenchmarkHotPush(b *testing.B) {
	mail := push.Notification{
		Kind: push.NewMail, Title: "Barbara Liskov", Subtitle: "Minutes of meeting number 7", Body: "Dear all, please find below the minutes.",
		Unread: new(3), Sound: "default", MessageID: "AAMk" + strings.Repeat("Y2ZkNjc4", 18), UserID: "1743", CollapseID: "mail-1",
	}
	long := mail
	long.Body = strings.Repeat("Dear all, please find below the minutes. ", 200)
	now, token := time.Unix(1_800_000_000, 0), strings.Repeat("0a", 32)
	for _, c := range []struct {
		name string
		n    push.Notification
	}{{"mail", mail}, {"mail that is too long", long}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := apns.Compose(c.n, token, topic, now, push.MaxPayload); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
