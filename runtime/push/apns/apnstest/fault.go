package apnstest

import "time"

// Request is what a fault hook sees of a push.
type Request struct {
	// Token is the device's.
	Token, Topic string
	// Connection is the number of the connection, from 1; Number the request's on the whole server, from 1.
	Connection, Number int
}

// Fault is what the server does instead of judging a push. The first of Hang, Cut, RefuseStream, LoseAnswer and GoAway that is set
// counts, then the answer.
type Fault struct {
	// Status and Reason are the answer; RetryAfter its header, if not 0.
	Status     int
	Reason     string
	RetryAfter time.Duration
	// Body replaces the JSON with the reason, as a proxy in between might.
	Body string
	// Hang never answers.
	Hang bool
	// Cut closes the connection without a word.
	Cut bool
	// RefuseStream resets the stream with REFUSED_STREAM.
	RefuseStream bool
	// LoseAnswer delivers the push and closes the connection instead of answering.
	LoseAnswer bool
	// GoAway answers nothing and sends GOAWAY for this stream and all later ones.
	GoAway bool
}
