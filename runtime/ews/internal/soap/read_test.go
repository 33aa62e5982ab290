package soap_test

import (
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ens-operator/ens-operator/runtime/ews/internal/soap"
)

const (
	namespaces = `xmlns:m="` + soap.Messages + `" xmlns:t="` + soap.Types + `"`
	start      = `<s:Envelope xmlns:s="` + soap.Envelope + `"><s:Body>`
	end        = `</s:Body></s:Envelope>`
)

// inBody is a message with content in its body, whose prefixes m and t are declared.
func inBody(content string) string {
	return start + `<m:x ` + namespaces + `>` + content + `</m:x>` + end
}

// declaring is a message in which n namespaces are in force.
func declaring(n int) string {
	return `<s:Envelope xmlns:s="` + soap.Envelope + `"` + strings.Repeat(` xmlns:t="`+soap.Types+`"`, n-1) + `><t:a/></s:Envelope>`
}

// quick are messages as real servers write them, and what is as good.
var quick = map[string]string{
	"a post as Exchange Online writes it": `<?xml version="1.0" encoding="utf-8"?><soap11:Envelope xmlns:soap11="` + soap.Envelope + `"><soap11:Header>` +
		`<t:RequestServerVersion xmlns:m="` + soap.Messages + `" Version="Exchange2010" xmlns:t="` + soap.Types + `" /></soap11:Header><soap11:Body>` +
		`<m:SendNotification xmlns:t="` + soap.Types + `" xmlns:m="` + soap.Messages + `"><m:ResponseMessages>` +
		`<m:SendNotificationResponseMessage ResponseClass="Success"><m:ResponseCode>NoError</m:ResponseCode><m:Notification>` +
		`<t:SubscriptionId>GABtYWls+/=</t:SubscriptionId><t:StatusEvent><t:Watermark>AQ=</t:Watermark></t:StatusEvent>` +
		`</m:Notification></m:SendNotificationResponseMessage></m:ResponseMessages></m:SendNotification></soap11:Body></soap11:Envelope>`,
	"a post as Exchange 2007 writes it": `<?xml version="1.0" encoding="utf-8"?><soap:Envelope xmlns:soap="` + soap.Envelope + `"><soap:Header>` +
		`<RequestServerVersion xmlns="` + soap.Messages + `" Version="Exchange2007_SP1"/></soap:Header><soap:Body>` +
		`<SendNotification xmlns="` + soap.Messages + `"><ResponseMessages/><SubscriptionId xmlns="` + soap.Types + `">sub</SubscriptionId>` +
		`</SendNotification></soap:Body></soap:Envelope>`,
	anAnswer: `<?xml version="1.0" encoding="utf-8"?><s:Envelope xmlns:s="` + soap.Envelope + `"><s:Header>` +
		`<h:ServerVersionInfo MajorVersion="15" MinorVersion="1" MajorBuildNumber="2507" MinorBuildNumber="6" Version="V2017_07_11" xmlns:h="` + soap.Types + `"` +
		` xmlns="` + soap.Types + `" xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"/></s:Header>` +
		`<s:Body xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xsd="http://www.w3.org/2001/XMLSchema">` +
		`<m:GetItemResponse ` + namespaces + `><m:ResponseMessages><m:GetItemResponseMessage ResponseClass="Success"><m:ResponseCode>NoError</m:ResponseCode>` +
		`<m:Items><t:Message><t:ItemId Id="AAMk=" ChangeKey="CQ=="/><t:Subject>Ünïcode &amp; 漢字！ 😀</t:Subject><t:Preview>a &lt;b&gt; &quot;c&quot;&#xD;
&#13;d&apos;e ' "</t:Preview></t:Message></m:Items></m:GetItemResponseMessage></m:ResponseMessages></m:GetItemResponse></s:Body></s:Envelope>`,
	"other prefixes":                              `<ns-1.a:Envelope xmlns:ns-1.a="` + soap.Envelope + `"><ns-1.a:Body><_2:x xmlns:_2="` + soap.Types + `"><_2:a Id="b">c</_2:a></_2:x></ns-1.a:Body></ns-1.a:Envelope>`,
	"a default namespace":                         start + `<x xmlns="` + soap.Messages + `"><a xmlns="` + soap.Types + `">b</a><c/></x>` + end,
	"a default namespace that the envelope has":   `<Envelope xmlns="` + soap.Envelope + `"><Body><x>b</x></Body></Envelope>`,
	"namespaces declared at the envelope":         `<s:Envelope ` + namespaces + ` xmlns:s="` + soap.Envelope + `"><s:Body><m:x><t:a>b</t:a></m:x></s:Body></s:Envelope>`,
	"namespaces declared where they are used":     start + `<m:x xmlns:m="` + soap.Messages + `"><t:a xmlns:t="` + soap.Types + `"/><u:a xmlns:u="` + soap.Types + `"/></m:x>` + end,
	"a prefix that means something else inside":   inBody(`<t:a xmlns:t="` + soap.Errors + `"><t:b/></t:a><t:c/>`),
	"a prefix declared behind its use":            inBody(`<u:a u:b="c" xmlns:u="` + soap.Errors + `"/>`),
	"a namespace declared twice in one tag":       inBody(`<u:a xmlns:u="` + soap.Errors + `" xmlns:u="` + soap.Types + `"/>`),
	"attributes in another order":                 inBody(`<t:a ChangeKey="c" Id="b"/>`),
	"an attribute that is there twice":            inBody(`<t:a Id="b" Id="c"/>`),
	"an attribute with a prefix":                  inBody(`<t:a t:Id="b" Id="c"/>`),
	"elements that nobody knows":                  inBody(`<unknown><t:more of="it"/></unknown>`),
	"other quotes":                                strings.ReplaceAll(inBody(`<t:a Id="b"/>`), `"`, `'`),
	"quotes in quotes":                            inBody(`<t:a Id='"b"' ChangeKey="'"/>`),
	"white space between elements":                inBody(" \n\t<t:a>\n</t:a>\n "),
	"text before an element":                      inBody("a<t:a/>"),
	"white space inside tags":                     inBody("<t:a \r\n\tId = \"b\"\n></t:a\r\n><t:b\n/>"),
	"white space around text":                     inBody("<t:a>\n b c\t</t:a>"),
	"white space around the envelope":             "\n" + inBody("") + "\n",
	"a byte order mark":                           "\xef\xbb\xbf" + `<?xml version="1.0" encoding="utf-8"?>` + inBody(""),
	"a declaration with other quotes and letters": `<?xml version='1.0' encoding='UTF-8'?>` + inBody(""),
	"a line break in an attribute":                inBody("<t:a Id=\"b\n\tc\"/>"),
	"white space by reference":                    inBody("<t:a>&#32;b&#xA0;</t:a><t:b>&#xa0;</t:b>"),
	"no body":                                     `<s:Envelope xmlns:s="` + soap.Envelope + `"/>`,
	"a tree 16 deep":                              inBody(strings.Repeat("<t:a>", 13) + strings.Repeat("</t:a>", 13)),
	"16 namespaces":                               declaring(16),
}

// slow are messages that are innocent, but not what Exchange writes: they are left to encoding/xml.
var slow = map[string]string{
	"a comment":                           inBody(`<!-- a --><t:a/>`),
	"CDATA":                               inBody(`<t:a><![CDATA[b]]></t:a>`),
	"an entity in an attribute":           inBody(`<t:a Id="b&amp;c"/>`),
	"text beside an element":              inBody(`a<t:a/>b`),
	"text after an element":               inBody(`<t:a/>b`),
	"> in text":                           inBody(`<t:a>b>c</t:a>`),
	"> in an attribute":                   inBody(`<t:a Id="b>c"/>`),
	"a carriage return in text":           inBody("<t:a>b\r\nc</t:a>"),
	"a name beyond ASCII":                 inBody(`<t:ä/>`),
	"a prefix that is not declared":       inBody(`<u:a/>`),
	"an attribute's prefix not declared":  inBody(`<t:a u:b="c"/>`),
	"the prefix xml":                      inBody(`<t:a xml:lang="en"/>`),
	"the prefix xmlns":                    inBody(`<xmlns:a/>`),
	"the prefix xmlns declared":           inBody(`<xmlns:a xmlns:xmlns="b"/>`),
	"a default namespace that ends":       inBody(`<a xmlns="b"><c xmlns=""/></a>`),
	"a colon at a name's end":             inBody(`<t:/>`),
	"a colon at a name's beginning":       inBody(`<:a/>`),
	"a second part that begins oddly":     inBody(`<t:1/>`),
	"a declaration without encoding":      `<?xml version="1.0"?>` + inBody(""),
	"a reference with many digits":        inBody(`<t:a>&#000000000065;</t:a>`),
	"a reference to half a character":     inBody(`<t:a>&#xD800;</t:a>`),
	"attributes without space in between": inBody(`<t:a Id="b"ChangeKey="c"/>`),
	"a tree 17 deep":                      inBody(strings.Repeat("<t:a>", 14) + strings.Repeat("</t:a>", 14)),
	"17 namespaces":                       declaring(17),
}

// wrong are messages that are refused.
var wrong = map[string]string{
	"nothing":                               ``,
	"white space":                           ` `,
	"text":                                  `text`,
	"<":                                     `<`,
	"a document type":                       `<!DOCTYPE x>` + inBody(""),
	"a document type with an entity":        `<!DOCTYPE x [<!ENTITY a "b">]>` + inBody(`<t:a>&a;</t:a>`),
	"a document type inside":                inBody(`<!DOCTYPE x>`),
	"an unknown entity":                     inBody(`<t:a>&nbsp;</t:a>`),
	"a number for an entity":                inBody(`<t:a>&65;</t:a>`),
	"an entity without an end":              inBody(`<t:a>&amp</t:a>`),
	"a reference to NUL":                    inBody(`<t:a>&#0;</t:a>`),
	"a reference beyond Unicode":            inBody(`<t:a>&#x110000;</t:a>`),
	"a reference to no number":              inBody(`<t:a>&#;</t:a>`),
	"a reference to a number with a sign":   inBody(`<t:a>&#+65;</t:a>`),
	"a processing instruction":              `<?xml-stylesheet href="x"?>` + inBody(""),
	"a declaration inside":                  inBody(`<?xml version="1.0" encoding="utf-8"?>`),
	"a declaration after white space twice": `<?xml version="1.0" encoding="utf-8"?> <?xml-x?>` + inBody(""),
	"another encoding":                      `<?xml version="1.0" encoding="utf-16"?>` + inBody(""),
	"invalid UTF-8":                         inBody("<t:a>\xff</t:a>"),
	"invalid UTF-8 in an attribute":         inBody("<t:a Id=\"\xc0\x80\"/>"),
	"invalid UTF-8 in an unused name":       inBody("<t:a\xff/>"),
	"NUL in text":                           inBody("<t:a>\x00</t:a>"),
	"a control character":                   inBody("<t:a Id=\"\x01\"/>"),
	"U+FFFE":                                inBody("<t:a>\ufffe</t:a>"),
	"U+FFFF in an attribute":                inBody("<t:a Id=\"\uffff\"/>"),
	"]]> in text":                           inBody(`<t:a>b]]>c</t:a>`),
	"< in an attribute":                     inBody(`<t:a Id="b<c"/>`),
	"an attribute without quotes":           inBody(`<t:a Id=b/>`),
	"an attribute without value":            inBody(`<t:a Id/>`),
	"an attribute that does not end":        inBody(`<t:a Id="b/>`),
	"another end tag":                       inBody(`<t:a></t:b>`),
	"another prefix in the end tag":         `<s:Envelope xmlns:s="` + soap.Envelope + `" xmlns:u="` + soap.Envelope + `"></u:Envelope>`,
	"a longer name in the end tag":          inBody(`<t:a></t:ab>`),
	"a shorter name in the end tag":         inBody(`<t:ab></t:a>`),
	"an end tag without a name":             inBody(`<t:a></>`),
	"an attribute in the end tag":           inBody(`<t:a></t:a b="c">`),
	"an end tag too many":                   inBody(``) + `</s:Envelope>`,
	"an end tag too few":                    strings.TrimSuffix(inBody(``), `</s:Envelope>`),
	"an end tag only":                       `</s:Envelope>`,
	"cut short in a tag":                    strings.TrimSuffix(inBody(``), `>`),
	"two roots":                             inBody("") + inBody(""),
	"text before the root":                  "x" + inBody(""),
	"text after the root":                   inBody("") + "x",
	"a name that begins with a digit":       inBody(`<1/>`),
	"a name of three parts":                 inBody(`<t:a:b/>`),
	"no name":                               inBody(`< />`),
	"a slash in a tag":                      inBody(`<t:a / >`),
	"a byte order mark inside":              `<?xml version="1.0" encoding="utf-8"?>` + "\xef\xbb\xbf" + inBody(""),
	"another root":                          `<m:x ` + namespaces + `/>`,
}

// comment is behind what encoding/xml has to read, as no message of Exchange has one.
const comment = "<!---->"

// anAnswer is one of quick.
const anAnswer = "an answer as Exchange 2016 writes it"

// same compares what is read with what encoding/xml makes of it. The memory is one in which another message has left its traces.
func same(t *testing.T, message string) {
	t.Helper()
	var reader soap.Reader
	if _, err := reader.Read([]byte(quick[anAnswer])); err != nil {
		t.Fatal(err)
	}
	read, err := reader.Read([]byte(message))
	want, wantErr := soap.Read([]byte(message + comment))
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("read with error %v, encoding/xml's is %v", err, wantErr)
	}
	if err == nil && !equal(read, want) {
		t.Fatalf("read %s, encoding/xml reads %s", show(read), show(want))
	}
}

func equal(a, b *soap.Element) bool {
	return a.Name == b.Name && a.Text() == b.Text() && slices.Equal(a.Attributes, b.Attributes) && slices.EqualFunc(a.Children, b.Children, equal)
}

func show(e *soap.Element) string {
	var b strings.Builder
	fmt.Fprintf(&b, "(%q %q %q", e.Name, e.Attributes, e.Text())
	for _, child := range e.Children {
		b.WriteString(" " + show(child))
	}
	return b.String() + ")"
}

// againAllocations is what it costs in memory that has been used before: its text, and one for each of two texts with entities.
const againAllocations = 3

func TestAReaderUsesItsMemoryAgain(t *testing.T) {
	for name, message := range quick {
		t.Run(name, func(t *testing.T) {
			content, reader := []byte(message), new(soap.Reader)
			if n := testing.AllocsPerRun(10, func() { _, _ = reader.Read(content) }); n > againAllocations {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

// A message that has been read must not be found in what is read by whoever borrows the memory next.
func TestNothingIsKeptOfWhatOthersHaveRead(t *testing.T) {
	t.Parallel()
	for range 100 {
		for name, message := range quick {
			reader := soap.Borrow()
			read, err := reader.Read([]byte(message))
			if err != nil {
				t.Fatal(err)
			}
			children, attributes := read.Children, read.Attributes
			reader.Return()
			if read.Name.Local != "" || len(read.Children)+len(read.Attributes) > 0 {
				t.Fatalf("%s: %q is left", name, read.Name.Local)
			}
			if slices.ContainsFunc(children, func(e *soap.Element) bool { return e != nil }) {
				t.Fatalf("%s: the list of children is left", name)
			}
			// Where there are more than fit, they are not in the Reader's memory.
			if name == anAnswer && slices.ContainsFunc(attributes, func(a xml.Attr) bool { return a != xml.Attr{} }) {
				t.Fatalf("%s: %q are left", name, attributes)
			}
		}
	}
}

// quickAllocations is what a message costs that encoding/xml has not read: its text, and the elements, attributes and
// children of the tree, and one for each of two texts with entities. encoding/xml cannot do with twice as many.
const quickAllocations = 6

func allocations(message string) float64 {
	content := []byte(message)
	return testing.AllocsPerRun(10, func() { _, _ = soap.Read(content) })
}

func TestWhatExchangeWritesIsReadQuickly(t *testing.T) {
	for name, message := range quick {
		t.Run(name, func(t *testing.T) {
			same(t, message)
			if _, err := soap.Read([]byte(message)); err != nil {
				t.Error(err)
			}
			if n := allocations(message); n > quickAllocations {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

func TestWhatElseIsXMLIsReadSlowly(t *testing.T) {
	for name, message := range slow {
		t.Run(name, func(t *testing.T) {
			same(t, message)
			if _, err := soap.Read([]byte(message)); err != nil {
				t.Error(err)
			}
			if n := allocations(message); n <= 2*quickAllocations {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

func TestWhatIsWrongIsRefused(t *testing.T) {
	t.Parallel()
	for name, message := range wrong {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if read, err := soap.Read([]byte(message)); !errors.Is(err, soap.ErrMalformed) {
				t.Errorf("read %v with error %v", read, err)
			}
		})
	}
}

// FuzzRead holds what is read against encoding/xml.
func FuzzRead(f *testing.F) {
	for _, messages := range []map[string]string{quick, slow, wrong} {
		for _, message := range messages {
			f.Add(message)
		}
	}
	f.Fuzz(same)
}
