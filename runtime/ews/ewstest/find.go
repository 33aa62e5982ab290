package ewstest

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ens-operator/ens-operator/runtime/ews/internal/soap"
)

// maxFound is how many items Exchange returns at most, whatever is asked for (EWSFindCountLimit).
const maxFound = 1000

// findItem lists the items of folders, by the time of arrival. A page begins at the front; nobody needs another.
func (s *Server) findItem(c *call, version int) *answer {
	fields, refused := requestedFields(c.body.Child(soap.Messages, "ItemShape"), version)
	if refused != nil {
		return refused
	}
	if slices.Contains(fields, "item:Body") {
		return soapFault("ErrorInvalidPropertyForOperation", "The property can not be used with this operation.", "")
	}
	view := c.body.Child(soap.Messages, "IndexedPageItemView")
	order := c.body.Child(soap.Messages, "SortOrder").Child(soap.Types, "FieldOrder")
	if view.Attribute("Offset") != "0" && view != nil || view.Attribute("BasePoint") == "End" ||
		order != nil && order.First().Attribute("FieldURI") != "item:DateTimeReceived" {
		return soapFault("ErrorInvalidOperation", "The fake serves pages from the beginning, by the time of arrival.", "")
	}
	limit := maxFound
	if asked, err := strconv.Atoi(view.Attribute("MaxEntriesReturned")); err == nil {
		limit = min(limit, asked)
	}
	var results []string
	first := ""
	for _, element := range c.body.Child(soap.Messages, "ParentFolderIds").Children {
		box, folder, code := s.openFolder(c.user, element)
		if code != "" {
			results = append(results, responseMessage("FindItem", "Error", code, ""))
		} else {
			code = "NoError"
			results = append(results, responseMessage("FindItem", "Success", code,
				s.foundXML(box, folder, fields, order.Attribute("Order") == "Descending", limit)))
		}
		if first == "" {
			first = code
		}
	}
	return responses("FindItem", first, results...)
}

// foundXML is the list of a folder's items.
func (s *Server) foundXML(box *mailbox, in *folder, fields []string, descending bool, limit int) string {
	var items []*item
	for _, item := range box.items {
		if item.folder == in {
			items = append(items, item)
		}
	}
	slices.SortFunc(items, func(a, b *item) int {
		order := cmp.Or(a.received.Compare(b.received), cmp.Compare(a.id, b.id))
		if descending {
			return -order
		}
		return order
	})
	total := len(items)
	items = items[:min(total, limit)]
	var b strings.Builder
	fmt.Fprintf(&b, `<m:RootFolder IndexedPagingOffset="%d" TotalItemsInView="%d" IncludesLastItemInRange="%t"><t:Items>`,
		len(items), total, len(items) == total)
	for _, item := range items {
		b.WriteString(item.xml(fields, false, s.newChangeKey()))
	}
	b.WriteString(`</t:Items></m:RootFolder>`)
	return b.String()
}
