package ewstest

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/ens-operator/ens-operator/runtime/ews/internal/soap"
)

// operation is one EWS operation: what the schema says about it, and what it does. work runs with Server.mu held.
type operation struct {
	rule rule
	work func(s *Server, c *call, version int) *answer
}

var operations = map[string]operation{
	"FindItem":     {findItemRule, (*Server).findItem},
	"GetFolder":    {getFolderRule, (*Server).getFolder},
	"GetItem":      {getItemRule, (*Server).getItem},
	"ResolveNames": {resolveNamesRule, (*Server).resolveNames},
	"Subscribe":    {subscribeRule, (*Server).subscribe},
}

// requestedFields returns the properties of a shape, or the fault if the request's version lacks one.
func requestedFields(shape *soap.Element, version int) ([]string, *answer) {
	var fields []string
	if shape.Child(soap.Types, "BaseShape").Text() != "IdOnly" {
		for field, since := range fieldVersions {
			if versionNumber(since) <= version {
				fields = append(fields, field)
			}
		}
	}
	if additional := shape.Child(soap.Types, "AdditionalProperties"); additional != nil {
		for _, uri := range additional.Children {
			field := uri.Attribute("FieldURI")
			if versionNumber(fieldVersions[field]) > version {
				return nil, soapFault("ErrorInvalidPropertyRequest", "The property is not known in the requested version.", "")
			}
			fields = append(fields, field)
		}
	}
	return fields, nil
}

// askedFor are the properties that a call names, in its order; the shape too, if it has properties of its own.
func askedFor(body *soap.Element) (fields []string) {
	for _, name := range []string{"ItemShape", "FolderShape"} {
		shape := body.Child(soap.Messages, name)
		if base := shape.Child(soap.Types, "BaseShape").Text(); base != "" && base != "IdOnly" {
			fields = append(fields, base)
		}
		if additional := shape.Child(soap.Types, "AdditionalProperties"); additional != nil {
			for _, uri := range additional.Children {
				fields = append(fields, uri.Attribute("FieldURI"))
			}
		}
	}
	return fields
}

// openFolder finds the folder that an element of FolderIds names. code is why it may not be opened.
func (s *Server) openFolder(user *mailbox, element *soap.Element) (box *mailbox, found *folder, code string) {
	if element.Name.Local == "FolderId" {
		for _, box := range s.mailboxes {
			for _, folder := range box.folders() {
				if folder.id == element.Attribute("Id") {
					if !user.opens(box) {
						return nil, nil, "ErrorAccessDenied"
					}
					return box, folder, ""
				}
			}
		}
		return nil, nil, "ErrorItemNotFound"
	}
	box = user
	if address := element.Child(soap.Types, "Mailbox").Child(soap.Types, "EmailAddress").Text(); address != "" {
		if box = s.mailbox(address); box == nil {
			return nil, nil, "ErrorNonExistentMailbox"
		}
		if !user.opens(box) {
			return nil, nil, "ErrorAccessDenied"
		}
	}
	if found = box.folder(element.Attribute("Id")); found == nil {
		return nil, nil, "ErrorFolderNotFound"
	}
	return box, found, ""
}

func (s *Server) getFolder(c *call, version int) *answer {
	fields, refused := requestedFields(c.body.Child(soap.Messages, "FolderShape"), version)
	if refused != nil {
		return refused
	}
	var results []string
	first := ""
	for _, element := range c.body.Child(soap.Messages, "FolderIds").Children {
		box, folder, code := s.openFolder(c.user, element)
		if code != "" {
			results = append(results, responseMessage("GetFolder", "Error", code, `<m:Folders/>`))
		} else {
			code = "NoError"
			results = append(results, responseMessage("GetFolder", "Success", code,
				`<m:Folders>`+folderXML(box, folder, fields)+`</m:Folders>`))
		}
		if first == "" {
			first = code
		}
	}
	return responses("GetFolder", first, results...)
}

// folderXML writes a folder in the schema's order.
func folderXML(box *mailbox, folder *folder, fields []string) string {
	var b strings.Builder
	b.WriteString(`<t:Folder>` + idXML("FolderId", folder.id, folder.changeKey))
	if slices.Contains(fields, "folder:DisplayName") {
		b.WriteString(`<t:DisplayName>` + folder.distinguished + `</t:DisplayName>`)
	}
	if slices.Contains(fields, "folder:TotalCount") {
		fmt.Fprintf(&b, `<t:TotalCount>%d</t:TotalCount>`, box.total(folder))
	}
	if slices.Contains(fields, "folder:UnreadCount") {
		fmt.Fprintf(&b, `<t:UnreadCount>%d</t:UnreadCount>`, box.unread(folder))
	}
	b.WriteString(`</t:Folder>`)
	return b.String()
}

func (s *Server) getItem(c *call, version int) *answer {
	shape := c.body.Child(soap.Messages, "ItemShape")
	fields, refused := requestedFields(shape, version)
	if refused != nil {
		return refused
	}
	asText := shape.Child(soap.Types, "BodyType").Text() == "Text"
	var results []string
	first := ""
	for _, element := range c.body.Child(soap.Messages, "ItemIds").Children {
		code, content := s.openItem(c.user, element.Attribute("Id"), fields, asText)
		class := "Success"
		if code != "NoError" {
			class = "Error"
		}
		results = append(results, responseMessage("GetItem", class, code, `<m:Items>`+content+`</m:Items>`))
		if first == "" {
			first = code
		}
	}
	return responses("GetItem", first, results...)
}

func (s *Server) openItem(user *mailbox, id string, fields []string, asText bool) (code, content string) {
	if id == "" {
		return "ErrorInvalidIdEmpty", ""
	}
	box, found, err := s.find(id)
	switch {
	case err != nil:
		return "ErrorItemNotFound", ""
	case !user.opens(box):
		return "ErrorAccessDenied", ""
	}
	return "NoError", found.xml(fields, asText, s.newChangeKey())
}

// previewLength is what Exchange keeps of a text for item:Preview, in UTF-16 units.
const previewLength = 256

// xml writes an item in the schema's order. It has only the properties that were asked for.
func (i *item) xml(fields []string, asText bool, changeKey string) string {
	element, class := i.mail.kind()
	var b strings.Builder
	put := func(field, content string) {
		if slices.Contains(fields, field) {
			b.WriteString(content)
		}
	}
	b.WriteString(`<t:` + element + `>` + idXML("ItemId", i.id, changeKey))
	put("item:ParentFolderId", idXML("ParentFolderId", i.folder.id, i.folder.changeKey))
	put("item:ItemClass", `<t:ItemClass>`+class+`</t:ItemClass>`)
	put("item:Subject", `<t:Subject>`+soap.Escape(i.mail.Subject)+`</t:Subject>`)
	put("item:Body", i.mail.bodyXML(asText))
	put("item:DateTimeReceived", `<t:DateTimeReceived>`+i.received.UTC().Format(time.RFC3339)+`</t:DateTimeReceived>`)
	put("item:Preview", `<t:Preview>`+soap.Escape(cutUTF16(i.mail.Preview, previewLength))+`</t:Preview>`)
	put("message:Sender", `<t:Sender>`+i.mail.sender()+`</t:Sender>`)
	if !i.mail.NoFrom {
		put("message:From", `<t:From>`+i.mail.sender()+`</t:From>`)
	}
	put("message:InternetMessageId", `<t:InternetMessageId>&lt;`+soap.Escape(i.id)+`@fake.example.com&gt;</t:InternetMessageId>`)
	put("message:IsRead", fmt.Sprintf(`<t:IsRead>%t</t:IsRead>`, i.read))
	b.WriteString(`</t:` + element + `>`)
	return b.String()
}

// bodyXML is the text as it is or, as Exchange prefers, as a page.
func (m Mail) bodyXML(asText bool) string {
	text := m.Body
	if text == "" {
		text = m.Preview
	}
	if asText {
		return `<t:Body BodyType="Text">` + soap.Escape(text) + `</t:Body>`
	}
	return `<t:Body BodyType="HTML">` + soap.Escape("<html><body>"+soap.Escape(text)+"</body></html>") + `</t:Body>`
}

func (m Mail) sender() string {
	routing := m.RoutingType
	if routing == "" {
		routing = "SMTP"
	}
	address := ""
	if m.FromAddress != "" {
		address = `<t:EmailAddress>` + soap.Escape(m.FromAddress) + `</t:EmailAddress>`
	}
	return `<t:Mailbox><t:Name>` + soap.Escape(m.FromName) + `</t:Name>` + address +
		`<t:RoutingType>` + soap.Escape(routing) + `</t:RoutingType><t:MailboxType>OneOff</t:MailboxType></t:Mailbox>`
}

func cutUTF16(text string, units int) string {
	encoded := utf16.Encode([]rune(text))
	if len(encoded) <= units {
		return text
	}
	if utf16.IsSurrogate(rune(encoded[units-1])) && utf16.IsSurrogate(rune(encoded[units])) {
		units-- // not in the middle of a pair
	}
	return string(utf16.Decode(encoded[:units]))
}
