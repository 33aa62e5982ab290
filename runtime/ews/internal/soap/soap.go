// Package soap reads the SOAP 1.1 messages of both directions: Exchange's posts and its answers to our requests, and in
// the fake Exchange the runtime's requests and replies.
//
// It reads foreign bytes, so it is strict where strictness costs nothing real: no DTD, no processing instruction, no
// entity beyond XML's own five, one root, limited depth and number of elements. It is lenient in what real senders
// vary: any namespace prefix, white space, a byte order mark, headers of any kind.
package soap

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// The namespaces of EWS messages. They are http:// whatever some web pages say (ews.md, section 0).
const (
	Envelope = "http://schemas.xmlsoap.org/soap/envelope/"
	Messages = "http://schemas.microsoft.com/exchange/services/2006/messages"
	Types    = "http://schemas.microsoft.com/exchange/services/2006/types"
	Errors   = "http://schemas.microsoft.com/exchange/services/2006/errors"
)

// Real messages are at most 12 deep; MessageXml may add a few.
const maxDepth = 64

// An element costs about 200 bytes of memory once read, so this bounds a message at about 13 MB. A notification event
// has five elements.
const maxElements = 65_536

// ErrMalformed is every reason to refuse a message.
var ErrMalformed = errors.New("malformed SOAP message")

// Element is one element of a message that was read.
type Element struct {
	Name       xml.Name
	Attributes []xml.Attr
	Children   []*Element
	// text is the character data directly inside, without the white space around it.
	text string
}

// Is reports whether e has the name local in the namespace space. It is false for nil.
func (e *Element) Is(space, local string) bool {
	return e != nil && e.Name.Local == local && e.Name.Space == space
}

// Child returns the first child of that name, or nil. It is nil for nil, so that paths can be chained.
func (e *Element) Child(space, local string) *Element {
	if e == nil {
		return nil
	}
	for _, child := range e.Children {
		if child.Is(space, local) {
			return child
		}
	}
	return nil
}

// First returns the first child whatever its name, or nil.
func (e *Element) First() *Element {
	if e == nil || len(e.Children) == 0 {
		return nil
	}
	return e.Children[0]
}

// Text returns the character data directly inside e without the white space around it; empty for nil.
func (e *Element) Text() string {
	if e == nil {
		return ""
	}
	return e.text
}

// Attribute returns the value of the attribute without namespace, empty if there is none.
func (e *Element) Attribute(local string) string {
	if e == nil {
		return ""
	}
	for _, attribute := range e.Attributes {
		if attribute.Name.Space == "" && attribute.Name.Local == local {
			return attribute.Value
		}
	}
	return ""
}

// Read reads a whole message and returns its envelope. The caller limits the size of message.
func Read(message []byte) (*Element, error) { return new(Reader).Read(message) }

// ReadBody reads a whole message and returns the one element inside the body.
func ReadBody(message []byte) (*Element, error) { return new(Reader).ReadBody(message) }

// envelope checks the root of a message that was read.
func envelope(root *Element, err error) (*Element, error) {
	if err != nil {
		return nil, err
	}
	if !root.Is(Envelope, "Envelope") {
		return nil, fmt.Errorf("%w: the root is not a SOAP 1.1 envelope", ErrMalformed)
	}
	return root, nil
}

// bodyOf is the element inside the body of an envelope that was read.
func bodyOf(envelope *Element, err error) (*Element, error) {
	if err != nil {
		return nil, err
	}
	body := envelope.Child(Envelope, "Body")
	if body == nil {
		return nil, fmt.Errorf("%w: no body", ErrMalformed)
	}
	if len(body.Children) != 1 {
		return nil, fmt.Errorf("%w: %d elements in the body, want 1", ErrMalformed, len(body.Children))
	}
	return body.Children[0], nil
}

var byteOrderMark = []byte("\xef\xbb\xbf")

func (r *Reader) readTree(message []byte) (*Element, error) {
	message = bytes.TrimPrefix(message, byteOrderMark)
	if root, ok := r.scan(message); ok {
		return root, nil
	}
	return decode(message)
}

// builder builds the tree. It keeps its own stack, so a deep message costs no goroutine stack.
type builder struct {
	root     *Element
	open     []reading
	elements int
}

// reading is an element whose end has not come, with the character data so far.
type reading struct {
	*Element
	content []byte
}

// decode reads a message with encoding/xml. What a message means is what it means to decode.
func decode(message []byte) (*Element, error) {
	decoder := xml.NewDecoder(bytes.NewReader(message))
	var b builder
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			// The decoder's text may quote the message, so only the place is told.
			return nil, fmt.Errorf("%w: not well-formed XML at byte %d", ErrMalformed, decoder.InputOffset())
		}
		if err := b.add(token); err != nil {
			return nil, err
		}
	}
	if b.root == nil {
		return nil, fmt.Errorf("%w: empty", ErrMalformed)
	}
	return b.root, nil
}

func (b *builder) add(token xml.Token) error {
	switch token := token.(type) {
	case xml.StartElement:
		return b.start(token)
	case xml.EndElement:
		top := b.open[len(b.open)-1]
		top.text = string(bytes.TrimSpace(top.content))
		b.open = b.open[:len(b.open)-1]
	case xml.CharData:
		if len(b.open) > 0 {
			top := &b.open[len(b.open)-1]
			top.content = append(top.content, token...)
		} else if len(bytes.TrimSpace(token)) > 0 {
			return fmt.Errorf("%w: text outside the root", ErrMalformed)
		}
	case xml.Directive:
		return fmt.Errorf("%w: a document type declaration is not allowed", ErrMalformed)
	case xml.ProcInst:
		if token.Target != "xml" || b.root != nil {
			return fmt.Errorf("%w: a processing instruction is not allowed", ErrMalformed)
		}
	}
	return nil
}

func (b *builder) start(token xml.StartElement) error {
	b.elements++
	switch {
	case b.elements > maxElements:
		return fmt.Errorf("%w: more than %d elements", ErrMalformed, maxElements)
	case len(b.open) >= maxDepth:
		return fmt.Errorf("%w: nested deeper than %d", ErrMalformed, maxDepth)
	case len(b.open) == 0 && b.root != nil:
		return fmt.Errorf("%w: a second root", ErrMalformed)
	}
	element := &Element{Name: token.Name, Attributes: token.Attr}
	if len(b.open) == 0 {
		b.root = element
	} else {
		parent := b.open[len(b.open)-1]
		parent.Children = append(parent.Children, element)
	}
	b.open = append(b.open, reading{Element: element})
	return nil
}

// Escape returns text as it stands between tags or inside a quoted attribute. Characters that XML cannot carry become
// U+FFFD.
func Escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a strings.Builder never fails
	return b.String()
}
