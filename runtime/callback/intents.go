package callback

import (
	"strings"

	"github.com/ens-operator/ens-operator/runtime/ews"
	"github.com/ens-operator/ens-operator/runtime/store"
)

// intents are what a post means for the phones.
type intents struct {
	// keys lack the user.
	keys map[store.Key]bool
	// counted says that the count changes with a mail that is among the keys. It needs no row of its own: whoever works on the
	// mail tells the count too.
	counted bool
	// changed says that something happened in the mailbox, unread is the count after it, nil if the post does not tell.
	changed bool
	unread  *int
}

// read finds out what a post means, and whether it says that the subscription is gone: an error post has no
// notification in it (protocol.md, Callback semantics).
func read(n ews.Notification) (in intents, lost bool) {
	in.keys = map[store.Key]bool{}
	for _, message := range n.Messages {
		if message.ResponseClass == ews.ClassError {
			lost = true
			in.keys[store.Key{Kind: store.Badge}] = true
			in.keys[store.Key{Kind: store.Resubscribe}] = true
		}
		for _, event := range message.Events {
			if event.Kind != ews.Status {
				in.changed, in.unread = true, event.UnreadCount // a count is old when something comes after it
			}
			switch event.Kind {
			case ews.NewMail, ews.Created:
				// A new folder is no mail. The same item comes in both kinds, maybe in several posts.
				if event.ItemID != "" {
					in.keys[store.Key{Kind: store.NewMail, Item: strings.Clone(event.ItemID)}] = true // the post need not stay as long
				}
			case ews.Modified, ews.Moved, ews.Copied, ews.Deleted:
				in.keys[store.Key{Kind: store.Badge}] = true
			case ews.Status:
			}
		}
	}
	if badge := (store.Key{Kind: store.Badge}); !lost && in.keys[badge] && len(in.keys) > 1 {
		delete(in.keys, badge)
		in.counted = true
	}
	return in, lost
}
