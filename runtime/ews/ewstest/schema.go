package ewstest

import (
	"encoding/xml"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ens-operator/ens-operator/runtime/ews/internal/soap"
)

// rule is what the EWS schema says about one element, for the operations that the fake serves. A request that breaks a
// rule is refused as Exchange refuses it.
type rule struct {
	space, name string
	// optional is minOccurs 0.
	optional bool
	// attributes are the allowed ones with what they may hold; those in required must be there.
	attributes map[string]func(string) bool
	required   []string
	// text is what the element's text must be; nil allows no text.
	text func(string) bool
	// sequence are the children in their order. choice are alternatives, of which at least one must be there, and only
	// one unless choices is set.
	sequence []rule
	choice   []rule
	choices  bool
}

func (r rule) check(e *soap.Element) error {
	if err := r.checkAttributes(e); err != nil {
		return err
	}
	if r.text == nil && e.Text() != "" {
		return fmt.Errorf("the element '%s' cannot contain text", r.name)
	}
	if r.text != nil && !r.text(e.Text()) {
		return fmt.Errorf("the '%s' element is invalid: its value is not allowed by its datatype", r.name)
	}
	if r.choice != nil {
		return r.checkChoice(e)
	}
	return r.checkSequence(e)
}

func (r rule) checkAttributes(e *soap.Element) error {
	for _, attribute := range e.Attributes {
		if attribute.Name.Space == "xmlns" || attribute.Name.Local == "xmlns" {
			continue
		}
		allowed := r.attributes[attribute.Name.Local]
		if attribute.Name.Space != "" || allowed == nil {
			return fmt.Errorf("the '%s' attribute is not declared on '%s'", attribute.Name.Local, r.name)
		}
		if !allowed(attribute.Value) {
			return fmt.Errorf("the '%s' attribute of '%s' is invalid", attribute.Name.Local, r.name)
		}
	}
	for _, name := range r.required {
		if !slices.ContainsFunc(e.Attributes, func(a xml.Attr) bool { return a.Name.Local == name }) {
			return fmt.Errorf("the required attribute '%s' of '%s' is missing", name, r.name)
		}
	}
	return nil
}

func (r rule) checkChoice(e *soap.Element) error {
	if len(e.Children) == 0 {
		return fmt.Errorf("the element '%s' has incomplete content", r.name)
	}
	if len(e.Children) > 1 && !r.choices {
		return r.invalidChild(e.Children[1])
	}
	for _, child := range e.Children {
		i := slices.IndexFunc(r.choice, func(alternative rule) bool { return child.Is(alternative.space, alternative.name) })
		if i < 0 {
			return r.invalidChild(child)
		}
		if err := r.choice[i].check(child); err != nil {
			return err
		}
	}
	return nil
}

func (r rule) checkSequence(e *soap.Element) error {
	rest := e.Children
	for _, expected := range r.sequence {
		switch {
		case len(rest) > 0 && rest[0].Is(expected.space, expected.name):
			if err := expected.check(rest[0]); err != nil {
				return err
			}
			rest = rest[1:]
		case expected.optional:
		case len(rest) > 0:
			return r.invalidChild(rest[0])
		default:
			return fmt.Errorf("the element '%s' has incomplete content: '%s' is expected", r.name, expected.name)
		}
	}
	if len(rest) > 0 {
		return r.invalidChild(rest[0])
	}
	return nil
}

func (r rule) invalidChild(child *soap.Element) error {
	return fmt.Errorf("the element '%s' has invalid child element '%s' in namespace '%s'", r.name, child.Name.Local, child.Name.Space)
}

// What texts and attributes may hold.

func anything(string) bool { return true }

func nonEmpty(value string) bool { return value != "" }

func oneOf(values ...string) func(string) bool {
	return func(value string) bool { return slices.Contains(values, value) }
}

func isBoolean(value string) bool { return oneOf("true", "false", "0", "1")(value) }

func isNumber(value string) bool {
	_, err := strconv.ParseUint(value, 10, 31)
	return err == nil
}

func isPositive(value string) bool { return isNumber(value) && strings.Trim(value, "0") != "" }

// isStatusFrequency is SubscriptionStatusFrequencyType: minutes.
func isStatusFrequency(value string) bool {
	minutes, err := strconv.Atoi(value)
	return err == nil && minutes >= 1 && minutes <= 1440
}

// types and messages make rules in the two namespaces.
func types(name string) rule    { return rule{space: soap.Types, name: name} }
func messages(name string) rule { return rule{space: soap.Messages, name: name} }

func (r rule) maybe() rule                       { r.optional = true; return r }
func (r rule) holds(text func(string) bool) rule { r.text = text; return r }
func (r rule) inOrder(sequence ...rule) rule     { r.sequence = sequence; return r }
func (r rule) oneOf(alternatives ...rule) rule   { r.choice = alternatives; return r }
func (r rule) someOf(alternatives ...rule) rule  { r.choice, r.choices = alternatives, true; return r }
func (r rule) needs(required ...string) rule     { r.required = required; return r }
func (r rule) with(name string, value func(string) bool) rule {
	attributes := map[string]func(string) bool{name: value}
	maps.Copy(attributes, r.attributes)
	r.attributes = attributes
	return r
}

// The rules of the operations, from types.xsd and messages.xsd.
var (
	itemID   = types("ItemId").with("Id", anything).with("ChangeKey", anything).needs("Id")
	folderID = types("FolderId").with("Id", anything).with("ChangeKey", anything).needs("Id")

	emailAddress = types("Mailbox").inOrder(
		types("Name").holds(anything).maybe(),
		types("EmailAddress").holds(nonEmpty).maybe(),
		types("RoutingType").holds(nonEmpty).maybe(),
	)

	distinguishedFolderID = types("DistinguishedFolderId").
				with("Id", oneOf(distinguishedFolders...)).with("ChangeKey", anything).needs("Id").
				inOrder(emailAddress.maybe())

	fieldURIs = types("FieldURI").with("FieldURI", func(value string) bool { return fieldVersions[value] != "" }).needs("FieldURI")

	additionalProperties = types("AdditionalProperties").someOf(fieldURIs)

	baseShape = types("BaseShape").holds(oneOf("IdOnly", "Default", "AllProperties"))

	getFolderRule = messages("GetFolder").inOrder(
		messages("FolderShape").inOrder(baseShape, additionalProperties.maybe()),
		messages("FolderIds").someOf(folderID, distinguishedFolderID),
	)

	getItemRule = messages("GetItem").inOrder(
		messages("ItemShape").inOrder(
			baseShape,
			types("IncludeMimeContent").holds(isBoolean).maybe(),
			types("BodyType").holds(oneOf("Best", "HTML", "Text")).maybe(),
			additionalProperties.maybe(),
		),
		messages("ItemIds").someOf(itemID),
	)

	findItemRule = messages("FindItem").with("Traversal", oneOf("Shallow", "SoftDeleted", "Associated")).needs("Traversal").inOrder(
		messages("ItemShape").inOrder(
			baseShape,
			types("IncludeMimeContent").holds(isBoolean).maybe(),
			types("BodyType").holds(oneOf("Best", "HTML", "Text")).maybe(),
			additionalProperties.maybe(),
		),
		messages("IndexedPageItemView").with("MaxEntriesReturned", isPositive).with("Offset", isNumber).
			with("BasePoint", oneOf("Beginning", "End")).needs("Offset", "BasePoint").maybe(),
		messages("SortOrder").inOrder(
			types("FieldOrder").with("Order", oneOf("Ascending", "Descending")).needs("Order").inOrder(fieldURIs),
		).maybe(),
		messages("ParentFolderIds").someOf(folderID, distinguishedFolderID),
	)

	resolveNamesRule = messages("ResolveNames").
				with("ReturnFullContactData", isBoolean).needs("ReturnFullContactData").
				with("SearchScope", oneOf("ActiveDirectory", "ActiveDirectoryContacts", "Contacts", "ContactsActiveDirectory")).
				with("ContactDataShape", oneOf("IdOnly", "Default", "AllProperties")).
				inOrder(messages("UnresolvedEntry").holds(nonEmpty))

	subscribeRule = messages("Subscribe").oneOf(
		messages("PushSubscriptionRequest").with("SubscribeToAllFolders", isBoolean).inOrder(
			types("FolderIds").someOf(folderID, distinguishedFolderID).maybe(),
			types("EventTypes").someOf(types("EventType").holds(oneOf(eventTypes...))),
			types("Watermark").holds(nonEmpty).maybe(),
			types("StatusFrequency").holds(isStatusFrequency),
			types("URL").holds(anything),
		),
	)
)

// distinguishedFolders are those of DistinguishedFolderIdNameType that a mail client meets.
var distinguishedFolders = strings.Fields("calendar contacts deleteditems drafts inbox journal notes outbox sentitems tasks" +
	" msgfolderroot publicfoldersroot root junkemail searchfolders voicemail")

var eventTypes = []string{
	"CopiedEvent", "CreatedEvent", "DeletedEvent", "ModifiedEvent", "MovedEvent", "NewMailEvent", "FreeBusyChangedEvent",
}

// fieldVersions are the properties that the fake can return, with the first version that has them.
var fieldVersions = map[string]string{
	"folder:FolderId":           "Exchange2007",
	"folder:DisplayName":        "Exchange2007",
	"folder:TotalCount":         "Exchange2007",
	"folder:UnreadCount":        "Exchange2007",
	"item:ItemId":               "Exchange2007",
	"item:ParentFolderId":       "Exchange2007",
	"item:ItemClass":            "Exchange2007",
	"item:Subject":              "Exchange2007",
	"item:Body":                 "Exchange2007",
	"item:DateTimeReceived":     "Exchange2007",
	"item:Preview":              "Exchange2013",
	"message:From":              "Exchange2007",
	"message:Sender":            "Exchange2007",
	"message:IsRead":            "Exchange2007",
	"message:InternetMessageId": "Exchange2007",
}
