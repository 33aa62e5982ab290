package exchange

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Listed is a mail as the Inbox lists it.
type Listed struct {
	Mail     uint64
	Received time.Time
}

// between is what stands between two texts, for requests whose form is known: the runtime's own.
func between(request, before, after string) (content string, found bool) {
	_, rest, found := strings.Cut(request, before)
	if !found {
		return "", false
	}
	content, _, found = strings.Cut(rest, after)
	return content, found
}

var errOthersFolder = errors.New("one user's credential came for another's Inbox")

// checkAddressed refuses a folder that is addressed as another mailbox's: a delegate is none of the population.
func checkAddressed(user Mailbox, request string) error {
	if address, addressed := between(request, `<t:EmailAddress>`, `</t:EmailAddress>`); addressed && address != user.Address() {
		return errOthersFolder
	}
	return nil
}

// resolveNames tells the directory's entry of the user's own login name. Nobody has to ask for another's.
func resolveNames(user Mailbox, request string) ([]byte, error) {
	name, _ := between(request, `<m:UnresolvedEntry>`, `</m:UnresolvedEntry>`)
	if name != user.Address() {
		return nil, errors.New("one user's credential came for another's entry of the directory")
	}
	return fmt.Appendf(nil, `%s<m:ResolveNamesResponse%s<m:ResponseMessages><m:ResolveNamesResponseMessage ResponseClass="Success">`+
		`<m:ResponseCode>NoError</m:ResponseCode><m:ResolutionSet TotalItemsInView="1" IncludesLastItemInRange="true"><t:Resolution>`+
		`<t:Mailbox><t:Name>%[3]s</t:Name><t:EmailAddress>%[3]s</t:EmailAddress><t:RoutingType>SMTP</t:RoutingType>`+
		`<t:MailboxType>Mailbox</t:MailboxType></t:Mailbox><t:Contact><t:Culture>en-US</t:Culture><t:DisplayName>%[3]s</t:DisplayName>`+
		`<t:EmailAddresses><t:Entry Key="EmailAddress1">SMTP:%[3]s</t:Entry></t:EmailAddresses><t:ContactSource>ActiveDirectory</t:ContactSource>`+
		`</t:Contact></t:Resolution></m:ResolutionSet></m:ResolveNamesResponseMessage></m:ResponseMessages></m:ResolveNamesResponse>%s`,
		answerBegin, namespaces, name, answerEnd), nil
}

// longestURL is what Exchange takes for a webhook, in characters.
const longestURL = 2082

// subscribe makes the mailbox's subscription, in place of the one before: it hands the webhook over and posts nothing itself.
// A webhook that it was given before is refused: each attempt must have one of its own.
func (s *Server) subscribe(user Mailbox, request string) ([]byte, error) {
	escaped, _ := between(request, `<t:URL>`, `</t:URL>`)
	address := strings.ReplaceAll(escaped, "&amp;", "&")
	webhook, err := url.Parse(address)
	if err != nil || webhook.Host == "" || len(address) > longestURL {
		return nil, errors.New("a webhook that is no URL, or too long a one")
	}
	if !strings.Contains(request, `<t:FolderIds><t:DistinguishedFolderId Id="inbox"/></t:FolderIds>`) {
		return nil, errors.New("a subscription to something else than the user's own Inbox")
	}
	if _, err := strconv.Atoi(first(between(request, `<t:StatusFrequency>`, `</t:StatusFrequency>`))); err != nil {
		return nil, errors.New("a subscription without heartbeats")
	}
	if s.options.Webhook != nil {
		if err := s.options.Webhook(&url.URL{Scheme: webhook.Scheme, Host: webhook.Host, Path: webhook.Path}); err != nil {
			return nil, err
		}
	}
	target := Target(webhook.RequestURI())
	if before, known := s.webhooks.Swap(user, target); known && before == target {
		return nil, errors.New("the webhook of an earlier attempt came again")
	}
	s.subscriptions.Add(1)
	if s.options.Subscribed != nil {
		s.options.Subscribed(user, target)
	}
	return fmt.Appendf(nil, `%s<m:SubscribeResponse%s<m:ResponseMessages><m:SubscribeResponseMessage ResponseClass="Success">`+
		`<m:ResponseCode>NoError</m:ResponseCode><m:SubscriptionId>%s</m:SubscriptionId><m:Watermark>%s</m:Watermark>`+
		`</m:SubscribeResponseMessage></m:ResponseMessages></m:SubscribeResponse>%s`,
		answerBegin, namespaces, user.SubscriptionID(), appendWatermark(nil, 0), answerEnd), nil
}

func first(text string, _ bool) string { return text }

// Subscriptions is how many were made.
func (s *Server) Subscriptions() int64 { return s.subscriptions.Load() }

// findItem lists the newest unread mails of the user's own Inbox.
func (s *Server) findItem(user Mailbox, request string) ([]byte, error) {
	limit, err := strconv.Atoi(first(between(request, `MaxEntriesReturned="`, `"`)))
	if err != nil || !strings.Contains(request, `<m:ParentFolderIds><t:DistinguishedFolderId Id="inbox"/></m:ParentFolderIds>`) {
		return nil, errors.New("something else than the newest mails of the Inbox is asked for")
	}
	var listed []Listed
	if s.options.Newest != nil {
		listed = s.options.Newest(user)
	}
	listed = listed[:min(limit, len(listed))]
	answer := fmt.Appendf(nil, `%s<m:FindItemResponse%s<m:ResponseMessages><m:FindItemResponseMessage ResponseClass="Success">`+
		`<m:ResponseCode>NoError</m:ResponseCode><m:RootFolder TotalItemsInView="%d" IncludesLastItemInRange="true"><t:Items>`,
		answerBegin, namespaces, len(listed))
	for _, mail := range listed {
		answer = append(answer, `<t:Message>`...)
		answer = appendID(answer, "ItemId", user.ItemID(mail.Mail), changeKey(user, mail.Mail*eventsPerMail+changeOfNew))
		answer = appendID(answer, "ParentFolderId", user.InboxID(), changeKey(user, changeOfInbox))
		answer = append(answer, `<t:DateTimeReceived>`...)
		answer = mail.Received.UTC().AppendFormat(answer, time.RFC3339)
		answer = append(answer, `</t:DateTimeReceived><t:IsRead>false</t:IsRead></t:Message>`...)
	}
	return append(answer, `</t:Items></m:RootFolder></m:FindItemResponseMessage></m:ResponseMessages></m:FindItemResponse>`+answerEnd...), nil
}

// passwords are those that users have changed, and how often the ones before were presented since.
type passwords struct {
	mu       sync.Mutex
	changes  map[Mailbox]int
	outdated map[Mailbox]int
}

// ChangePassword gives the user another password and returns it.
func (s *Server) ChangePassword(user Mailbox) string {
	p := &s.passwords
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changes == nil {
		p.changes, p.outdated = map[Mailbox]int{}, map[Mailbox]int{}
	}
	p.changes[user]++
	return password(user, p.changes[user])
}

func password(user Mailbox, changes int) string {
	if changes == 0 {
		return user.Password()
	}
	return user.Password() + "+" + strconv.Itoa(changes)
}

// Outdated is how often the user's earlier passwords were presented since they were changed: each time brings the account
// closer to its lock.
func (s *Server) Outdated(user Mailbox) int {
	s.passwords.mu.Lock()
	defer s.passwords.mu.Unlock()
	return s.passwords.outdated[user]
}

// judge compares a password with the user's. An earlier one is refused, too, but is no mix-up.
func (p *passwords) judge(user Mailbox, presented string) (ok, outdated bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.changes[user]
	for changes := now; changes >= 0; changes-- {
		if presented != password(user, changes) {
			continue
		}
		if changes < now {
			p.outdated[user]++
		}
		return changes == now, changes < now
	}
	return false, false
}
