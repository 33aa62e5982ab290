package ewstest

import (
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Mailbox is a user with a mailbox.
type Mailbox struct {
	// Address is the primary SMTP address.
	Address string
	// OtherAddresses are further SMTP addresses.
	OtherAddresses []string
	// Logins are the user names that the password goes with: a UPN, DOMAIN\user, an alias. Empty is Address.
	Logins   []string
	Password string
	// Name is the display name, e.g. "Alice Adams". Empty is Alias.
	Name string
	// Alias is the Exchange alias. Empty is the local part of Address.
	Alias string
	// OpenTo are the addresses of the mailboxes whose users may open this one too.
	OpenTo []string
}

// Mail is a mail that arrives.
type Mail struct {
	FromName, FromAddress string
	// RoutingType is that of FromAddress; empty is SMTP, EX makes it an X.500 name.
	RoutingType string
	// NoFrom leaves From out, so that only Sender is there.
	NoFrom  bool
	Subject string
	// Preview is the beginning of the text; the server cuts it to 256 characters.
	Preview string
	// Body is the whole text; empty is Preview.
	Body string
	// Element is the kind of item: Message (if empty), MeetingRequest, PostItem, …
	Element string
	// Class is the item class; if empty it is what goes with Element.
	Class string
}

// kind is the mail's element and item class.
func (m Mail) kind() (element, class string) {
	element, class = m.Element, m.Class
	if element == "" {
		element = "Message"
	}
	if class == "" {
		class = map[string]string{
			"MeetingRequest": "IPM.Schedule.Meeting.Request", "MeetingResponse": "IPM.Schedule.Meeting.Resp.Pos",
			"MeetingCancellation": "IPM.Schedule.Meeting.Canceled", "PostItem": "IPM.Post",
		}[element]
	}
	if class == "" {
		class = "IPM.Note"
	}
	return element, class
}

// mailbox is a Mailbox and what is in it, guarded by Server.mu.
type mailbox struct {
	Mailbox
	// root is the parent of the others.
	root, inbox, deleted *folder
	items                map[string]*item
	authFailures         int
	// revocations is how often the user's tokens were revoked.
	revocations int
}

type folder struct {
	id, changeKey string
	// distinguished is the folder's name in DistinguishedFolderId.
	distinguished string
}

type item struct {
	id       string
	folder   *folder
	mail     Mail
	read     bool
	received time.Time
}

// AddMailbox adds a user. The same address again replaces password, logins and names and keeps the contents.
func (s *Server) AddMailbox(m Mailbox) {
	if len(m.Logins) == 0 {
		m.Logins = []string{m.Address}
	}
	if m.Alias == "" {
		m.Alias, _, _ = strings.Cut(m.Address, "@")
	}
	if m.Name == "" {
		m.Name = m.Alias
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.mailbox(m.Address); known != nil {
		known.Mailbox = m
		return
	}
	s.mailboxes = append(s.mailboxes, &mailbox{
		Mailbox: m,
		root:    &folder{id: s.newID(), changeKey: s.newChangeKey(), distinguished: "msgfolderroot"},
		inbox:   &folder{id: s.newID(), changeKey: s.newChangeKey(), distinguished: "inbox"},
		deleted: &folder{id: s.newID(), changeKey: s.newChangeKey(), distinguished: "deleteditems"},
		items:   map[string]*item{},
	})
}

// AuthFailures is how often a wrong password was given for the mailbox's user.
func (s *Server) AuthFailures(address string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if box := s.mailbox(address); box != nil {
		return box.authFailures
	}
	return 0
}

// Unread is the Inbox's unread count, -1 if there is no such mailbox.
func (s *Server) Unread(address string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if box := s.mailbox(address); box != nil {
		return box.unread(box.inbox)
	}
	return -1
}

// InboxID is the folder id of the mailbox's Inbox, empty if there is no such mailbox.
func (s *Server) InboxID(address string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if box := s.mailbox(address); box != nil {
		return box.inbox.id
	}
	return ""
}

// mailbox finds a mailbox by any of its addresses; s.mu is held.
func (s *Server) mailbox(address string) *mailbox {
	for _, box := range s.mailboxes {
		if containsFold(box.addresses(), address) {
			return box
		}
	}
	return nil
}

// login finds a mailbox by a user name and reports whether the password is its own; s.mu is held.
func (s *Server) login(name, password string) (box *mailbox, ok bool) {
	for _, box := range s.mailboxes {
		if containsFold(box.Logins, name) {
			return box, subtle.ConstantTimeCompare([]byte(box.Password), []byte(password)) == 1
		}
	}
	return nil, false
}

func (b *mailbox) addresses() []string { return append([]string{b.Address}, b.OtherAddresses...) }

// opens reports whether the user of b may open other.
func (b *mailbox) opens(other *mailbox) bool {
	return b == other || slices.ContainsFunc(b.addresses(), func(a string) bool { return containsFold(other.OpenTo, a) })
}

func (b *mailbox) unread(in *folder) int {
	count := 0
	for _, item := range b.items {
		if item.folder == in && !item.read {
			count++
		}
	}
	return count
}

func (b *mailbox) total(in *folder) int {
	count := 0
	for _, item := range b.items {
		if item.folder == in {
			count++
		}
	}
	return count
}

func (b *mailbox) folders() []*folder { return []*folder{b.root, b.inbox, b.deleted} }

// The sizes of real ids: long enough that nobody parses them, with +, / and = in them.
const (
	idBytes        = 82
	changeKeyBytes = 30
)

// newID draws an id; s.mu is held.
func (s *Server) newID() string { return "AAMk" + s.randomBase64(idBytes) }

func (s *Server) newChangeKey() string { return "CQAA" + s.randomBase64(changeKeyBytes) }

func (s *Server) randomBase64(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(s.random.Uint32())
	}
	return base64.StdEncoding.EncodeToString(b)
}

func containsFold(list []string, value string) bool {
	return slices.ContainsFunc(list, func(entry string) bool { return strings.EqualFold(entry, value) })
}

// find returns the item with this id and its mailbox; s.mu is held.
func (s *Server) find(itemID string) (*mailbox, *item, error) {
	for _, box := range s.mailboxes {
		if item, ok := box.items[itemID]; ok {
			return box, item, nil
		}
	}
	return nil, nil, fmt.Errorf("no item with this id")
}
