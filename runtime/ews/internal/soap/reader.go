package soap

import (
	"encoding/xml"
	"sync"
)

// maxKept is how many elements a Reader has memory for while nobody uses it: more than the messages have that come all the time.
const maxKept = 512

// Reader reads messages into memory that it uses again, a quarter of what a mail takes otherwise. It is for one goroutine at a
// time. The tree of a message is valid until the next one is read; the texts in it stay valid.
type Reader struct {
	elements   []Element
	attributes []xml.Attr
	pointers   []*Element
}

var readers = sync.Pool{New: func() any { return new(Reader) }}

// Borrow returns a Reader. It is to be given back by Return.
func Borrow() *Reader { return readers.Get().(*Reader) }

// Return lets others use the Reader. No tree that it has read may be used any more; nothing of them is kept.
func (r *Reader) Return() {
	if cap(r.elements) > maxKept {
		return
	}
	clear(r.elements[:cap(r.elements)])
	clear(r.attributes[:cap(r.attributes)])
	clear(r.pointers[:cap(r.pointers)])
	readers.Put(r)
}

// Read is like the function.
func (r *Reader) Read(message []byte) (*Element, error) {
	root, err := r.readTree(message)
	return envelope(root, err)
}

// ReadBody is like the function.
func (r *Reader) ReadBody(message []byte) (*Element, error) {
	root, err := r.Read(message)
	return bodyOf(root, err)
}

// make gives the scanner memory for a number of elements.
func (r *Reader) make(elements int) scanner {
	if cap(r.elements) < elements {
		r.elements = make([]Element, 0, elements)
		r.attributes = make([]xml.Attr, 0, elements+moreAttributes)
		r.pointers = make([]*Element, 2*elements) //nolint:mnd // each is somebody's child, and waits before
	}
	return scanner{
		elements: r.elements[:0:elements], attributes: r.attributes[:0], children: r.pointers[:0:elements],
		waiting: r.pointers[elements:elements],
	}
}
