// Package segtest is a fake Secure Email Gateway: an HTTPS server in front of a fake Exchange that lets the calls for
// compliant devices pass (G-01 to G-18), for tests and the demo.
//
//	exchange := ewstest.StartT(t, ewstest.Options{TrustedProxy: "kerberos"})
//	gateway := segtest.StartT(t, segtest.Options{Exchange: exchange, TrustedProxy: "kerberos"})
//	gateway.SetCompliant("6C30D0304E7A4EE795494DEB0F465B72", true)
//
// It is strict: a call must name its devices in both headers, and they must agree. It passes Basic and Bearer through,
// refuses NTLM and takes it out of Exchange's challenges (G-13), and ends the TLS of client certificates: it presents
// their users to Exchange by a login of trust, as a real one does with Kerberos (G-14).
//
// Which headers a SEG expects is in no public document. These are named after the columns of its log (G-04), and what
// they hold is the contract's (protocol.md, To EWS).
//
// It is awkward within what it may do: the ids in its answers are in capitals or not, in one header or several, with
// blanks or without. Every choice is drawn from a seed that is told at the start; Options.Calm turns that off.
package segtest
