package ewstest

import (
	"fmt"
	"strings"

	"github.com/ens-operator/ens-operator/runtime/ews/internal/soap"
)

// What ResolveNames returns at most.
const (
	maxResolutions      = 100
	maxContactAddresses = 3 // EmailAddress1 to EmailAddress3
)

// resolveNames searches the directory as Exchange does: a prefix of the display name or a word of it, of the alias, or of
// the primary address; with "smtp:" before it, of any address. It knows neither UPNs that are no address nor
// DOMAIN\user. Exchange may return matches in any order.
func (s *Server) resolveNames(c *call, version int) *answer {
	if c.body.Attribute("ContactDataShape") != "" && version < versionNumber("Exchange2010_SP2") {
		return soapFault("ErrorSchemaValidation", "The 'ContactDataShape' attribute is not declared.", "")
	}
	name := c.body.Child(soap.Messages, "UnresolvedEntry").Text()
	var matches []*mailbox
	for _, box := range s.mailboxes {
		if box.matches(name) && len(matches) < maxResolutions {
			matches = append(matches, box)
		}
	}
	if len(matches) == 0 {
		return failed("ResolveNames", "ErrorNameResolutionNoResults", "")
	}
	if !s.options.Calm {
		s.random.Shuffle(len(matches), func(i, j int) { matches[i], matches[j] = matches[j], matches[i] })
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<m:ResolutionSet TotalItemsInView="%d" IncludesLastItemInRange="true">`, len(matches))
	for _, box := range matches {
		b.WriteString(box.resolutionXML(c.body.Attribute("ReturnFullContactData"), c.body.Attribute("ContactDataShape")))
	}
	b.WriteString(`</m:ResolutionSet>`)
	class, code := "Success", "NoError"
	if len(matches) > 1 {
		class, code = "Warning", "ErrorNameResolutionMultipleResults"
	}
	return responses("ResolveNames", code, responseMessage("ResolveNames", class, code, b.String()))
}

func (b *mailbox) matches(name string) bool {
	name = strings.ToLower(name)
	if address, found := strings.CutPrefix(name, "smtp:"); found {
		return anyHasPrefix(b.addresses(), address)
	}
	candidates := append(strings.Fields(b.Name), b.Name, b.Alias, b.Address)
	return anyHasPrefix(candidates, name)
}

func anyHasPrefix(candidates []string, prefix string) bool {
	for _, candidate := range candidates {
		if strings.HasPrefix(strings.ToLower(candidate), prefix) {
			return true
		}
	}
	return false
}

func (b *mailbox) resolutionXML(fullContactData, shape string) string {
	resolution := `<t:Resolution><t:Mailbox><t:Name>` + soap.Escape(b.Name) + `</t:Name><t:EmailAddress>` + soap.Escape(b.Address) +
		`</t:EmailAddress><t:RoutingType>SMTP</t:RoutingType><t:MailboxType>Mailbox</t:MailboxType></t:Mailbox>`
	if fullContactData == "true" || fullContactData == "1" {
		resolution += b.contactXML(shape)
	}
	return resolution + `</t:Resolution>`
}

// contactXML writes the directory's contact in the schema's order. Addresses carry their kind; the primary one's is in
// capitals. The alias comes only with AllProperties.
func (b *mailbox) contactXML(shape string) string {
	var x strings.Builder
	x.WriteString(`<t:Contact><t:Culture>en-US</t:Culture><t:DisplayName>` + soap.Escape(b.Name) + `</t:DisplayName><t:EmailAddresses>`)
	entries := []string{"SMTP:" + b.Address}
	for _, other := range b.OtherAddresses {
		entries = append(entries, "smtp:"+other)
	}
	entries = append(entries, "SIP:"+b.Address)
	for i, entry := range entries[:min(len(entries), maxContactAddresses)] {
		fmt.Fprintf(&x, `<t:Entry Key="EmailAddress%d">%s</t:Entry>`, i+1, soap.Escape(entry))
	}
	x.WriteString(`</t:EmailAddresses><t:ContactSource>ActiveDirectory</t:ContactSource>`)
	if shape == "AllProperties" {
		x.WriteString(`<t:Alias>` + soap.Escape(b.Alias) + `</t:Alias>`)
	}
	x.WriteString(`</t:Contact>`)
	return x.String()
}
