package ewstest

import (
	"strings"

	"github.com/ens-operator/ens-operator/runtime/ews/internal/soap"
)

// dialect is how a message is written: prefixes and where they are declared. Readers must not care.
//
// Messages are composed with the prefixes m: and t: and the envelope is added here. Text is escaped, so a tag's
// beginning cannot stand in it.
type dialect struct {
	// envelope is the prefix of SOAP's own namespace, messages and types those of the two others; empty makes it the
	// default namespace.
	envelope, messages, types string
	// longForm writes <x></x> instead of <x/>.
	longForm bool
	// oldHeader writes RequestServerVersion without prefix in the messages namespace, as Exchange 2007 does.
	oldHeader bool
}

// recorded is how Exchange Online posts (ews.md, section 2).
var recorded = dialect{envelope: "soap11", messages: "m", types: "t"}

// postDialects were all seen from real servers (ews.md, section 2). The recorded one is the most common.
var postDialects = []dialect{
	recorded,
	recorded,
	{envelope: "s", messages: "m", types: "t"},
	{envelope: "soap", messages: "", types: "t", oldHeader: true},
	{envelope: "soap11", messages: "m", types: "t", longForm: true},
}

// answerDialects are those of answers to requests.
var answerDialects = []dialect{
	{envelope: "s", messages: "m", types: "t"},
	{envelope: "soap", messages: "", types: "t"},
	{envelope: "s", messages: "m", types: ""},
}

// message wraps the body's one element; header may be empty.
func (d dialect) message(header, body string) []byte {
	if header != "" {
		header = `<` + d.tag(d.envelope, "Header") + `>` + header + `</` + d.tag(d.envelope, "Header") + `>`
	}
	end := strings.IndexAny(body, " >/")
	body = body[:end] + declare(d.messages, soap.Messages) + declare(d.types, soap.Types) + body[end:]
	replace := []string{
		`<m:`, `<` + d.tag(d.messages, ""), `</m:`, `</` + d.tag(d.messages, ""),
		`<t:`, `<` + d.tag(d.types, ""), `</t:`, `</` + d.tag(d.types, ""),
	}
	body = strings.NewReplacer(replace...).Replace(body)
	if d.longForm {
		body = longForm(body)
	}
	envelope := d.tag(d.envelope, "Envelope")
	return []byte(`<?xml version="1.0" encoding="utf-8"?><` + envelope + declare(d.envelope, soap.Envelope) + `>` + header +
		`<` + d.tag(d.envelope, "Body") + `>` + body + `</` + d.tag(d.envelope, "Body") + `></` + envelope + `>`)
}

func (d dialect) requestServerVersion(version string) string {
	if d.oldHeader {
		return `<RequestServerVersion xmlns="` + soap.Messages + `" Version="` + version + `"/>`
	}
	return `<t:RequestServerVersion xmlns:m="` + soap.Messages + `" Version="` + version + `" xmlns:t="` + soap.Types + `" />`
}

func (d dialect) tag(prefix, name string) string {
	if prefix == "" {
		return name
	}
	return prefix + ":" + name
}

func declare(prefix, namespace string) string {
	if prefix == "" {
		return ` xmlns="` + namespace + `"`
	}
	return ` xmlns:` + prefix + `="` + namespace + `"`
}

// longForm writes every empty element with an end tag.
func longForm(body string) string {
	var b strings.Builder
	for {
		end := strings.Index(body, "/>")
		if end < 0 {
			b.WriteString(body)
			return b.String()
		}
		start := strings.LastIndexByte(body[:end], '<')
		name, _, _ := strings.Cut(body[start+1:end], " ")
		b.WriteString(body[:end] + "></" + name + ">")
		body = body[end+len("/>"):]
	}
}
