package ews

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"github.com/ens-operator/ens-operator/runtime/ews/internal/soap"
)

// Folder is a mailbox's Inbox.
type Folder struct {
	// ID is opaque, printable ASCII, at most 1,024 bytes. It does not change while the mailbox exists.
	ID string
	// UnreadCount is never negative.
	UnreadCount int
}

// Inbox returns the Inbox of the mailbox with this address, or the user's own if it is empty. A mailbox that is not
// there or not the user's gives ErrAccessDenied or ErrItemNotFound.
func (s *Session) Inbox(ctx context.Context, mailboxAddress string) (Folder, error) {
	defer s.forget()
	messages, _, err := s.call(ctx, OpGetFolder, exchange2010SP2, always(inboxBody(mailboxAddress)))
	if err != nil {
		return Folder{}, err
	}
	return s.parseInbox(messages)
}

func (s *Session) parseInbox(messages []*soap.Element) (Folder, error) {
	message, err := s.only(OpGetFolder, messages)
	if err != nil {
		return Folder{}, err
	}
	element := message.Child(soap.Messages, "Folders").First()
	id := element.Child(soap.Types, "FolderId").Attribute("Id")
	if id == "" || checkID(id) != nil {
		return Folder{}, s.failure(OpGetFolder, http.StatusOK, fmt.Errorf("%w: no usable FolderId", ErrResponse))
	}
	unread, err := strconv.ParseInt(element.Child(soap.Types, "UnreadCount").Text(), 10, 32)
	if err != nil || unread < 0 {
		return Folder{}, s.failure(OpGetFolder, http.StatusOK, fmt.Errorf("%w: no usable UnreadCount", ErrResponse))
	}
	return Folder{ID: id, UnreadCount: int(unread)}, nil
}

func inboxBody(mailboxAddress string) string {
	folder := `<t:DistinguishedFolderId Id="inbox"/>`
	if mailboxAddress != "" {
		folder = `<t:DistinguishedFolderId Id="inbox"><t:Mailbox><t:EmailAddress>` + soap.Escape(mailboxAddress) +
			`</t:EmailAddress></t:Mailbox></t:DistinguishedFolderId>`
	}
	return `<m:GetFolder><m:FolderShape><t:BaseShape>IdOnly</t:BaseShape>` +
		`<t:AdditionalProperties><t:FieldURI FieldURI="folder:UnreadCount"/></t:AdditionalProperties></m:FolderShape>` +
		`<m:FolderIds>` + folder + `</m:FolderIds></m:GetFolder>`
}
