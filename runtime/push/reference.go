package push

// Event is what a notification tells the app, in the words of the wire contract.
type Event string

// The events.
const (
	EventNewMail     Event = "newMail"
	EventBadge       Event = "badge"
	EventResubscribe Event = "resubscribe"
)

// Reference is the `ens` object that every notification carries for the app (protocol.md, "To the phone").
type Reference struct {
	MessageID string `json:"messageId,omitempty"`
	UserID    string `json:"userId,omitempty"`
	Event     Event  `json:"event"`
}

// Reference returns the notification's `ens` object. A Resubscribe names neither mail nor user.
func (n Notification) Reference() Reference {
	switch n.Kind {
	case NewMail:
		return Reference{MessageID: n.MessageID, UserID: n.UserID, Event: EventNewMail}
	case Badge:
		return Reference{UserID: n.UserID, Event: EventBadge}
	default:
		return Reference{Event: EventResubscribe}
	}
}

// Silent reports whether n shows no text: every kind but NewMail, and NewMail under policy 4 (N-05).
func (n Notification) Silent() bool {
	return n.Kind != NewMail || n.Title == "" && n.Subtitle == "" && n.Body == ""
}

// Known reports whether k is one of the kinds.
func (k Kind) Known() bool { return k >= NewMail && k <= Resubscribe }
