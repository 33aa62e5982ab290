// Package ewstest is a fake Exchange: an HTTPS server that speaks EWS as the runtime hears it, for tests, the demo and
// load generation.
//
//	exchange := ewstest.StartT(t, ewstest.Options{CallbackRoots: roots})
//	exchange.AddMailbox(ewstest.Mailbox{Address: "alice@example.com", Password: "secret"})
//	exchange.Deliver("alice@example.com", ewstest.Mail{FromName: "Bob", Subject: "Lunch?"})
//
// It authenticates as IIS does: by Basic, NTLMv2, access tokens (IssueToken) and client certificates (IssueCertificate),
// whichever Options switch on. Who has authenticated a connection by NTLM is its user, whatever later requests present;
// Request shows it.
//
// It is strict: requests must be valid by the sequences of the EWS schema, credentials right, mailboxes the user's own,
// webhook URLs acceptable to Exchange, replies to its posts exactly what MS-OXWSPSNTIF wants.
//
// It is awkward on purpose within what Exchange may do: namespace prefixes vary, the first post may come before the
// answer to Subscribe, the events of one mail come in one post or several, unread counts come or do not, answers are
// compressed or chunked. Every choice is drawn from a seed that is told at the start; the same seed makes the same
// choices as long as requests come in the same order. Options.Calm turns the awkwardness off.
//
// Time is the injected clock's, and Options.Compression makes minutes pass faster. Tests need not sleep: they wait for a
// Callback, a Request or a Subscription; when one is reported, the timers that follow from it are already set.
//
// It never prints a password or a webhook URL.
package ewstest
