// Package ews is what the runtime says to Exchange and hears from it.
//
// Inbound, Exchange posts SendNotification to the webhook: ParseNotification reads it, and one of two exact replies
// answers it (WriteReply). Outbound, a Client serves one configured endpoint; a Session of it makes the calls of one
// user: Inbox, ResolveNames, Subscribe, Messages.
//
// Errors are *Error values. They say in words what an administrator can do, are told apart with errors.Is and the
// Err values of this package, and never hold a credential, an e-mail address, a webhook URL or text that Exchange wrote:
// its MessageText is localised and may contain addresses.
//
// The package ewstest beside it is a fake Exchange.
package ews

// Operation is an EWS operation as it is named on the wire and in errors and logs.
type Operation string

// The operations in use.
const (
	OpFindItem     Operation = "FindItem"
	OpGetFolder    Operation = "GetFolder"
	OpGetItem      Operation = "GetItem"
	OpResolveNames Operation = "ResolveNames"
	OpSubscribe    Operation = "Subscribe"
)
