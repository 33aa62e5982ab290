package ews

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"github.com/ens-operator/ens-operator/runtime/ews/internal/soap"
)

// Newest lists what came last into the user's own Inbox, the newest first: at most limit items, without their contents.
//
// Nothing is searched for. Exchange keeps the Inbox in the order of arrival, so this costs it little, while a restriction
// would be evaluated for each item.
func (s *Session) Newest(ctx context.Context, limit int) ([]Message, error) {
	defer s.forget()
	messages, _, err := s.call(ctx, OpFindItem, exchange2010SP2, always(newestBody(limit)))
	if err != nil {
		return nil, err
	}
	return s.parseNewest(messages)
}

func newestBody(limit int) string {
	return `<m:FindItem Traversal="Shallow"><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape><t:AdditionalProperties>` +
		`<t:FieldURI FieldURI="item:ParentFolderId"/><t:FieldURI FieldURI="item:DateTimeReceived"/><t:FieldURI FieldURI="message:IsRead"/>` +
		`</t:AdditionalProperties></m:ItemShape>` +
		`<m:IndexedPageItemView MaxEntriesReturned="` + strconv.Itoa(limit) + `" Offset="0" BasePoint="Beginning"/>` +
		`<m:SortOrder><t:FieldOrder Order="Descending"><t:FieldURI FieldURI="item:DateTimeReceived"/></t:FieldOrder></m:SortOrder>` +
		`<m:ParentFolderIds><t:DistinguishedFolderId Id="inbox"/></m:ParentFolderIds></m:FindItem>`
}

func (s *Session) parseNewest(messages []*soap.Element) ([]Message, error) {
	message, err := s.only(OpFindItem, messages)
	if err != nil {
		return nil, err
	}
	items := message.Child(soap.Messages, "RootFolder").Child(soap.Types, "Items")
	if items == nil {
		return nil, s.failure(OpFindItem, http.StatusOK, fmt.Errorf("%w: no Items", ErrResponse))
	}
	found := make([]Message, 0, len(items.Children))
	for _, item := range items.Children {
		id := item.Child(soap.Types, "ItemId").Attribute("Id")
		if id == "" || checkID(id) != nil {
			return nil, s.failure(OpFindItem, http.StatusOK, fmt.Errorf("%w: no usable ItemId", ErrResponse))
		}
		listed := parseItem(item)
		listed.ItemID = id
		found = append(found, listed)
	}
	return found, nil
}
