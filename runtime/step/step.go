// Package step names the steps on a notification's way through the runtime: the points between which the process may
// die. In production nobody is told about them. Tests are, and end the process at each of them in turn (docs/reliability.md).
package step

// Step is a point on the way of a post, a registration or a nudge.
type Step string

// The steps, in the order in which they are reached.
const (
	// Exchange's post, until it is answered.
	PostReceived      Step = "post received"
	PostAuthenticated Step = "post authenticated"
	PostLookedUp      Step = "subscription looked up"
	PostOpened        Step = "credential opened"
	PostParsed        Step = "post parsed"
	JournalDue        Step = "journal about to be written"
	JournalWritten    Step = "journal written"
	PostAnswered      Step = "post answered"
	MarkedAlive       Step = "subscription marked alive"

	// The work after the answer.
	WorkBegun         Step = "work begun"
	OwedTaken         Step = "what is owed taken up"
	TargetLookedUp    Step = "devices looked up"
	GapJournalled     Step = "what came during a gap written"
	MailFetched       Step = "mail fetched"
	PushDue           Step = "push about to be sent"
	PushAccepted      Step = "push accepted"
	CompletionDue     Step = "completion about to be written"
	ToldRecorded      Step = "what was told recorded"
	CompletionWritten Step = "completion written"

	// A registration.
	GenerationWritten    Step = "generation written"
	Subscribed           Step = "subscribed"
	Promoted             Step = "subscription promoted"
	DeviceAttached       Step = "device attached to a live subscription"
	Drained              Step = "work of the registration handed over"
	RegistrationAnswered Step = "registration answered"

	// A nudge: the phones of a user whose credential is refused are asked to register again.
	CredentialRefused Step = "credential marked refused"
	NudgeDue          Step = "nudge about to be written"
	NudgeWritten      Step = "nudge written"
)

// All are all steps. A step that is missing here is not tested.
func All() []Step {
	return []Step{
		PostReceived, PostAuthenticated, PostLookedUp, PostOpened, PostParsed, JournalDue, JournalWritten, PostAnswered, MarkedAlive,
		WorkBegun, OwedTaken, TargetLookedUp, GapJournalled, MailFetched, PushDue, PushAccepted, CompletionDue, ToldRecorded, CompletionWritten,
		GenerationWritten, Subscribed, Promoted, DeviceAttached, Drained, RegistrationAnswered,
		CredentialRefused, NudgeDue, NudgeWritten,
	}
}

// Hook is told of each step as it is reached, by the goroutine that has reached it. Nil tells nobody.
type Hook func(Step)

// Reached tells the hook of a step.
func (h Hook) Reached(s Step) {
	if h != nil {
		h(s)
	}
}
