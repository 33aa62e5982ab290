package soap

import (
	"encoding/xml"
	"strings"
	"unicode/utf8"
)

// What scan takes; deeper and richer messages are decode's. Real ones are at most 12 deep and have up to a dozen
// namespaces in force.
const (
	maxScanDepth      = 16
	maxScanNamespaces = 16
	// moreAttributes is how many attributes messages have beyond one an element, at most as a rule: declarations, and the
	// server's version.
	moreAttributes = 12
)

// scan reads a message as Exchange writes it, in about an eighth of the time that encoding/xml takes. ok is false for everything
// else, however innocent, and for all that is wrong: that is decode's to read or to refuse. If ok is true, the tree is the
// one that decode makes (FuzzRead).
//
// It leaves alone: document types, comments, CDATA, processing instructions but for the XML declaration, entities and >
// in attributes, text after elements, carriage returns in text, names beyond ASCII, prefixes that are not declared, and
// namespaces that are no more.
func (r *Reader) scan(message []byte) (root *Element, ok bool) {
	text := string(message)
	elements := strings.Count(text, "<") - strings.Count(text, "</")
	if elements > maxElements || !utf8.ValidString(text) {
		return nil, false
	}
	s := r.make(elements)
	s.rest = skipDeclaration(text)
	for s.rest != "" {
		if !s.text() || s.rest != "" && !s.tag() {
			return nil, false
		}
	}
	return s.root, s.root != nil && s.depth == 0
}

// scanner keeps all elements of a tree in one piece of memory, and their attributes and children in two others.
type scanner struct {
	// rest is what has not been read.
	rest string
	root *Element
	// elements never outgrows what it was made for: there are pointers into it.
	elements   []Element
	attributes []xml.Attr
	// children are those of elements that have ended, waiting are those whose parent has not.
	children, waiting []*Element

	open  [maxScanDepth]openTag
	depth int
	names [maxScanNamespaces]binding
	bound int
}

// openTag is an element whose end has not come.
type openTag struct {
	element *Element
	name    string // as it stands, with its prefix
	// outer is how many namespaces are bound outside of it, waiting where its children begin.
	outer, waiting int
}

// binding is what a prefix means; the empty prefix is the default namespace.
type binding struct{ prefix, space string }

// declarations are how senders begin. Anything else about encodings is decode's.
var declarations = []string{
	`<?xml version="1.0" encoding="utf-8"?>`,
	`<?xml version="1.0" encoding="UTF-8"?>`,
	`<?xml version='1.0' encoding='utf-8'?>`,
	`<?xml version='1.0' encoding='UTF-8'?>`,
}

func skipDeclaration(text string) string {
	for _, declaration := range declarations {
		if rest, found := strings.CutPrefix(text, declaration); found {
			return rest
		}
	}
	return text
}

// text reads up to the next tag.
func (s *scanner) text() bool {
	end := strings.IndexByte(s.rest, '<')
	if end < 0 {
		end = len(s.rest)
	}
	raw := s.rest[:end]
	s.rest = s.rest[end:]
	text, ok := unescape(raw)
	if !ok || !plain(raw) {
		return false
	}
	text = strings.TrimSpace(text)
	if text == "" {
		return true
	}
	if s.depth == 0 {
		return false
	}
	top := &s.open[s.depth-1]
	top.element.text = text
	return len(s.waiting) == top.waiting
}

// tag reads one tag.
func (s *scanner) tag() bool {
	if strings.HasPrefix(s.rest, "</") {
		return s.endTag()
	}
	return s.startTag()
}

func (s *scanner) endTag() bool {
	if s.depth == 0 {
		return false
	}
	rest, ok := strings.CutPrefix(s.rest[len("</"):], s.open[s.depth-1].name)
	rest = skipSpace(rest)
	if !ok || !strings.HasPrefix(rest, ">") {
		return false
	}
	s.rest = rest[len(">"):]
	s.end()
	return true
}

func (s *scanner) startTag() bool {
	s.rest = s.rest[len("<"):]
	name := s.name()
	if name.local == "" || s.depth == maxScanDepth || s.depth == 0 && s.root != nil || len(s.elements) == cap(s.elements) {
		return false
	}
	s.elements = append(s.elements, Element{})
	element := &s.elements[len(s.elements)-1]
	if s.root == nil {
		s.root = element
	}
	s.open[s.depth] = openTag{element: element, name: name.whole, outer: s.bound, waiting: len(s.waiting)}
	s.depth++
	first := len(s.attributes)
	for {
		rest := skipSpace(s.rest)
		if after, ok := strings.CutPrefix(rest, ">"); ok {
			s.rest = after
			return s.resolve(element, name, first)
		}
		if after, ok := strings.CutPrefix(rest, "/>"); ok {
			s.rest = after
			ok = s.resolve(element, name, first)
			s.end()
			return ok
		}
		if len(rest) == len(s.rest) {
			return false // no space before the attribute
		}
		s.rest = rest
		if !s.attribute() {
			return false
		}
	}
}

// end gives the innermost element its children, and what it has declared up.
func (s *scanner) end() {
	s.depth--
	top := &s.open[s.depth]
	if own := s.waiting[top.waiting:]; len(own) > 0 {
		first := len(s.children)
		s.children = append(s.children, own...)
		top.element.Children = s.children[first:len(s.children):len(s.children)]
	}
	s.waiting = append(s.waiting[:top.waiting], top.element)
	s.bound = top.outer
}

// attribute reads name="value", and binds what it declares.
func (s *scanner) attribute() bool {
	name := s.name()
	rest, assigned := strings.CutPrefix(skipSpace(s.rest), "=")
	rest = skipSpace(rest)
	if name.local == "" || !assigned || rest == "" || rest[0] != '"' && rest[0] != '\'' {
		return false
	}
	end := strings.IndexByte(rest[1:], rest[0])
	if end < 0 {
		return false
	}
	value := rest[1 : 1+end]
	s.rest = rest[1+end+1:]
	if !plain(value) || strings.IndexByte(value, '&') >= 0 {
		return false
	}
	s.attributes = append(s.attributes, xml.Attr{Name: xml.Name{Space: name.prefix, Local: name.local}, Value: value})
	switch {
	case name.prefix == "xmlns":
		return s.bind(name.local, value)
	case name.whole == "xmlns":
		return s.bind("", value)
	}
	return true
}

func (s *scanner) bind(prefix, space string) bool {
	if space == "" || prefix == "xml" || prefix == "xmlns" || s.bound == maxScanNamespaces {
		return false
	}
	s.names[s.bound] = binding{prefix, space}
	s.bound++
	return true
}

// resolve gives an element its attributes from first on, and all of them their namespaces.
func (s *scanner) resolve(element *Element, name qualified, first int) (ok bool) {
	element.Name.Local = name.local
	if element.Name.Space, ok = s.space(name.prefix); !ok {
		return false
	}
	element.Attributes = s.attributes[first:len(s.attributes):len(s.attributes)]
	for i := range element.Attributes {
		attribute := &element.Attributes[i].Name
		if attribute.Space == "" || attribute.Space == "xmlns" {
			continue // the default namespace is not one of attributes
		}
		if attribute.Space, ok = s.space(attribute.Space); !ok {
			return false
		}
	}
	return true
}

// space is the namespace that a prefix is bound to, the innermost if there are several.
func (s *scanner) space(prefix string) (string, bool) {
	for i := s.bound - 1; i >= 0; i-- {
		if s.names[i].prefix == prefix {
			return s.names[i].space, true
		}
	}
	return "", prefix == ""
}

// qualified is the name of an element or attribute: prefix:local or local.
type qualified struct{ whole, prefix, local string }

// name reads a name whose parts begin with a letter or _ and go on with what isNameByte takes. Its local part is empty if
// there is none.
func (s *scanner) name() qualified {
	end, part := 0, 0
	for ; end < len(s.rest); end++ {
		c := s.rest[end]
		if c == ':' && part == 0 && end > 0 {
			part = end + 1
		} else if !isNameByte(c, end == part) {
			break
		}
	}
	n := qualified{whole: s.rest[:end], prefix: s.rest[:max(part-1, 0)], local: s.rest[part:end]}
	s.rest = s.rest[end:]
	return n
}

func isNameByte(c byte, first bool) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_':
		return true
	case c >= '0' && c <= '9', c == '-', c == '.':
		return !first
	}
	return false
}

func skipSpace(text string) string {
	for text != "" && (text[0] == ' ' || text[0] == '\t' || text[0] == '\n' || text[0] == '\r') {
		text = text[1:]
	}
	return text
}

// plain tells whether decode would take valid UTF-8 between tags or in an attribute as it stands, but for &.
func plain(text string) bool {
	for i := range len(text) {
		if odd[text[i]] && (text[i] != firstOfLast || strings.HasPrefix(text[i:], "\ufffe") || strings.HasPrefix(text[i:], "\uffff")) {
			return false
		}
	}
	return true
}

// firstOfLast begins what is no character to XML, U+FFFE and U+FFFF, and others that are.
const firstOfLast = 0xef

// odd are the bytes that plain text does not have, or not always: control characters, the carriage return because it
// becomes a line feed, < and, because of ]]>, >.
var odd = func() (odd [256]bool) {
	for c := range ' ' {
		odd[c] = c != '\t' && c != '\n'
	}
	odd['<'], odd['>'], odd[firstOfLast] = true, true, true
	return odd
}()
