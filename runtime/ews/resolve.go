package ews

import (
	"context"
	"errors"
	"strings"

	"github.com/ens-operator/ens-operator/runtime/ews/internal/soap"
)

// routingSMTP is the routing type of ordinary addresses; the other is EX, an X.500 name.
const routingSMTP = "SMTP"

// Resolution is one entry of the directory that matches a name.
type Resolution struct {
	// Name is the display name.
	Name string
	// EmailAddress is the primary address, of the kind RoutingType (SMTP or EX).
	EmailAddress, RoutingType string
	// Alias is the Exchange alias (mailNickname), empty if the server does not tell, as before Exchange 2010 SP2.
	Alias string
	// Addresses are the SMTP addresses of the directory's contact data, as many as the server tells (at most three),
	// without the prefix "smtp:". The primary one is usually among them.
	Addresses []string
}

// ResolveNames returns the entries of Active Directory that match name; none is no error. Exchange matches the display
// name, the alias and the primary address by prefix (`ali` finds `alice`), so an entry is no proof of anything by
// itself. With the prefix "smtp:" the name is compared with all addresses, without it only with the primary one.
func (s *Session) ResolveNames(ctx context.Context, name string) ([]Resolution, error) {
	if name == "" {
		return nil, errors.New("resolving a name: it must not be empty")
	}
	defer s.forget()
	messages, _, err := s.call(ctx, OpResolveNames, exchange2010SP2, func(v version) string { return resolveBody(name, v) })
	if err != nil {
		return nil, err
	}
	return s.parseResolutions(messages)
}

func (s *Session) parseResolutions(messages []*soap.Element) ([]Resolution, error) {
	message, err := s.only(OpResolveNames, messages)
	if e, ok := errors.AsType[*Error](err); ok && e.Code == ErrorNameResolutionNoResults {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var resolutions []Resolution
	for _, element := range children(message.Child(soap.Messages, "ResolutionSet")) {
		if element.Is(soap.Types, "Resolution") {
			resolutions = append(resolutions, parseResolution(element))
		}
	}
	return resolutions, nil
}

// resolveBody asks for all of the contact's properties where the version lets us: the alias is not in the default set.
func resolveBody(name string, v version) string {
	shape := ""
	if v >= exchange2010SP2 {
		shape = ` ContactDataShape="AllProperties"`
	}
	return `<m:ResolveNames ReturnFullContactData="true" SearchScope="ActiveDirectory"` + shape + `>` +
		`<m:UnresolvedEntry>` + soap.Escape(name) + `</m:UnresolvedEntry></m:ResolveNames>`
}

func parseResolution(element *soap.Element) Resolution {
	mailbox, contact := element.Child(soap.Types, "Mailbox"), element.Child(soap.Types, "Contact")
	resolution := Resolution{
		Name:         mailbox.Child(soap.Types, "Name").Text(),
		EmailAddress: mailbox.Child(soap.Types, "EmailAddress").Text(),
		RoutingType:  mailbox.Child(soap.Types, "RoutingType").Text(),
		Alias:        contact.Child(soap.Types, "Alias").Text(),
	}
	for _, entry := range children(contact.Child(soap.Types, "EmailAddresses")) {
		if address, ok := smtpAddress(entry.Text()); ok {
			resolution.Addresses = append(resolution.Addresses, address)
		}
	}
	return resolution
}

// smtpAddress takes the prefix off a directory address; addresses of other kinds (SIP:, X500:, EX:) are not ok.
func smtpAddress(entry string) (string, bool) {
	kind, address, prefixed := strings.Cut(entry, ":")
	if !prefixed {
		return entry, strings.Contains(entry, "@")
	}
	return address, strings.EqualFold(kind, routingSMTP) && strings.Contains(address, "@")
}
