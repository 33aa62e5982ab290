// Package push is what the runtime tells the phones and how a provider answers. The providers are in the folders
// below, each with a fake of its real protocol.
package push

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Platform is a phone's operating system, spelled as in the wire contract.
type Platform string

// The platforms.
const (
	IOS     Platform = "iOS"
	Android Platform = "Android"
)

// Kind is why a phone is told something.
type Kind int

// The kinds of notification.
const (
	// NewMail shows an alert, unless the policy hides it, and sets the badge.
	NewMail Kind = iota + 1
	// Badge sets the unread count and shows nothing.
	Badge
	// Resubscribe wakes the app so that it registers again, and shows nothing.
	Resubscribe
)

// Device is where a notification goes.
type Device struct {
	// Ref is the small number used in logs (N-10).
	Ref      int64
	Platform Platform
	// Token is the APNs device token (hex) or FCM registration token.
	Token string
	// AppID is the app's bundle id or package; empty takes the provider's only one.
	AppID string
	// Registered is when the device last registered or changed its token, zero if that is not known.
	Registered time.Time
}

// Notification is one message to one device. Texts are already cut to the policy in effect; a provider cuts them
// further only to fit its size limit (preview first, then subject, at a grapheme boundary).
type Notification struct {
	Kind Kind
	// Title, Subtitle and Body are sender, subject and preview. All empty with NewMail means that nothing is shown
	// and only the badge is set (policy 4, N-05).
	Title, Subtitle, Body string
	// Unread is the Inbox's unread count, nil if it is not known.
	Unread *int
	// Sound is the name of the sound; empty is silent.
	Sound string
	// MessageID is the EWS item id of the mail (N-11), UserID the user's hash.
	MessageID, UserID string
	// CollapseID lets the provider replace an earlier notification of the same mail, at most 64 bytes.
	CollapseID string
}

// Provider delivers notifications. Implementations are safe for concurrent use and bound themselves: a Push ends with
// its context at the latest.
type Provider interface {
	// Push delivers n to d. A nil error means that the provider accepted it. Every other outcome is an *Error (use
	// errors.As), or the context's error.
	Push(ctx context.Context, d Device, n Notification) error
	// Close gives connections back. Pushes under way fail.
	Close() error
}

// Outcome is what a failed push means for what happens next.
type Outcome int

// The outcomes.
const (
	// Retry: the provider or the way to it is at fault for now; the same push may succeed later.
	Retry Outcome = iota + 1
	// DeadToken: the provider will never deliver to this token again.
	DeadToken
	// Misconfigured: the credential, topic or project is wrong; an administrator has to act.
	Misconfigured
	// Rejected: the provider refuses this message; the same push will never succeed.
	Rejected
	// Deferred: the push was not tried, because the provider is left alone for now.
	Deferred
)

// String names the outcome as metrics and logs show it.
func (o Outcome) String() string {
	switch o {
	case Retry:
		return "retry"
	case DeadToken:
		return "dead_token"
	case Misconfigured:
		return "misconfigured"
	case Rejected:
		return "rejected"
	case Deferred:
		return "deferred"
	default:
		return "unknown"
	}
}

// Error is a provider's refusal. It carries the provider's reason and never a token or any text of the notification.
type Error struct {
	// Provider is the configured name.
	Provider string
	Outcome  Outcome
	// Status is the HTTP status, 0 if there was no answer.
	Status int
	// Reason is the provider's own word, e.g. "Unregistered".
	Reason string
	// RetryAfter is how long the provider asked to wait, 0 if it did not say.
	RetryAfter time.Duration
	// OneDevice says that it is this device that has had too many pushes, not the provider.
	OneDevice bool
	// Lasting says that every push meets this refusal, of whatever device, until an administrator acts: the credential is
	// refused, by the service or by the proxy, or it is not the service who answers.
	Lasting bool
	// DeadSince is when the token died, if the provider said so (APNs 410).
	DeadSince time.Time
	// Err is the underlying error, if any.
	Err error
}

// Error implements error.
func (e *Error) Error() string {
	text := fmt.Sprintf("push provider %s: %s", e.Provider, e.Outcome)
	if e.Status != 0 {
		text += fmt.Sprintf(" (status %d)", e.Status)
	}
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the underlying error.
func (e *Error) Unwrap() error { return e.Err }

// OutcomeOf returns what err means: 0 for nil, the Error's outcome, and Retry for everything else, such as the end of
// the context.
func OutcomeOf(err error) Outcome {
	if err == nil {
		return 0
	}
	if refusal, ok := errors.AsType[*Error](err); ok {
		return refusal.Outcome
	}
	return Retry
}
