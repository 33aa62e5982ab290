// Package exchange plays Exchange for load: very many mailboxes about which it keeps next to nothing, posts as they were
// recorded from Exchange Online, and the answers to what the runtime asks after a post.
//
// It takes so little that the machine's time goes to what is measured. What it checks is what could go wrong under load:
// that a request is for the mailbox whose credential it carries, and that a post is answered as Exchange wants it. The fake
// for everything else is runtime/ews/ewstest; a test shows that both post and answer alike.
package exchange
