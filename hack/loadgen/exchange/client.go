package exchange

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Reply is what a webhook has answered.
type Reply struct {
	// Status is the HTTP status.
	Status int
	// OK says that Exchange is satisfied, Unsubscribe that it ends the subscription. With neither it tries again.
	OK, Unsubscribe bool
}

// Connection is one connection to a webhook's server, which is kept alive as Exchange does. For one goroutine.
type Connection struct {
	// address is host and port, host what the server is called.
	address, host string
	// tls is how the server is verified, nil if it speaks without TLS.
	tls  *tls.Config
	conn net.Conn
	// used is when the last answer came.
	used   time.Time
	reader *bufio.Reader
	buffer []byte
	body   []byte
}

// NewConnection makes a connection to host:port, which is dialled with the first post.
func NewConnection(address string) *Connection { return &Connection{address: address, host: address} }

// NewSecureConnection is one over TLS. It is not kept for longer than idleLimit, since a proxy in front may end it.
func NewSecureConnection(address string, config *tls.Config) *Connection {
	return &Connection{address: address, host: strings.TrimSuffix(address, ":443"), tls: config}
}

// idleLimit is shorter than any proxy keeps a connection that nothing is sent over.
const idleLimit = 5 * time.Second

// Close closes it.
func (c *Connection) Close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

// postTimeout bounds a post with its answer.
const postTimeout = 30 * time.Second

// Post posts to a webhook and reads the answer. After an error the next one is made on another connection.
func (c *Connection) Post(target Target, p Post) (Reply, error) {
	reply, err := c.post(target, p)
	if err != nil {
		c.Close()
		return Reply{}, fmt.Errorf("posting to the webhook: %w", err)
	}
	return reply, nil
}

// Target is a webhook's URL without scheme and host: path and query. It holds the sealed credential: do not print it.
type Target string

// String implements fmt.Stringer.
func (Target) String() string { return "[redacted]" }

// GoString implements fmt.GoStringer.
func (Target) GoString() string { return "[redacted]" }

func (c *Connection) post(target Target, p Post) (Reply, error) {
	if c.tls != nil && time.Since(c.used) > idleLimit {
		c.Close()
	}
	if c.conn == nil {
		conn, err := c.dial()
		if err != nil {
			return Reply{}, err
		}
		c.conn, c.reader = conn, bufio.NewReader(conn)
	}
	_ = c.conn.SetDeadline(time.Now().Add(postTimeout))
	c.body = p.Append(c.body[:0])
	c.buffer = append(append(c.buffer[:0], "POST "...), target...)
	c.buffer = append(append(c.buffer, " HTTP/1.1\r\nHost: "...), c.host...)
	c.buffer = append(c.buffer, "\r\nContent-Type: text/xml; charset=utf-8\r\nAccept: text/xml\r\n"+
		"SOAPAction: http://schemas.microsoft.com/exchange/services/2006/messages/SendNotification\r\nContent-Length: "...)
	c.buffer = strconv.AppendInt(c.buffer, int64(len(c.body)), 10)
	c.buffer = append(append(c.buffer, "\r\n\r\n"...), c.body...)
	if _, err := c.conn.Write(c.buffer); err != nil {
		return Reply{}, err
	}
	response, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return Reply{}, err
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return Reply{}, err
	}
	c.used = time.Now()
	if response.Close {
		c.Close()
	}
	return read(response, content), nil
}

func (c *Connection) dial() (net.Conn, error) {
	dialer := &net.Dialer{Timeout: postTimeout}
	if c.tls == nil {
		return dialer.Dial("tcp", c.address)
	}
	return tls.DialWithDialer(dialer, "tcp", c.address, c.tls)
}

// read takes an answer for what the original reader takes it: what is not known to be accepted is a failure.
func read(response *http.Response, content []byte) Reply {
	reply := Reply{Status: response.StatusCode}
	if response.StatusCode != http.StatusOK || response.ContentLength < 0 ||
		!strings.EqualFold(response.Header.Get("Content-Type"), "text/xml; charset=utf-8") {
		return reply
	}
	for text, said := range map[string]*bool{"OK": &reply.OK, "Unsubscribe": &reply.Unsubscribe} {
		*said = bytes.Contains(content, []byte("SubscriptionStatus>"+text+"</"))
	}
	return reply
}
