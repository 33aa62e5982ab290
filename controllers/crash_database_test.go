package controllers_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// A databaseProxy stands between a process and Postgres, reads along, and asks the fuse about each statement that changes
// something. It understands as much of the protocol as that takes: connections without TLS.
type databaseProxy struct {
	address  string
	server   string
	listener net.Listener

	mutex       sync.Mutex
	fuse        *fuse
	connections []net.Conn
	closed      bool
	running     sync.WaitGroup
}

func startDatabaseProxy(t *testing.T, f *fuse, server string) *databaseProxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &databaseProxy{address: listener.Addr().String(), fuse: f, server: server, listener: listener}
	p.running.Go(p.accept)
	return p
}

// use has the connections that come ask another fuse: another process makes them.
func (p *databaseProxy) use(f *fuse) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.fuse = f
}

func (p *databaseProxy) current() *fuse {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.fuse
}

func (p *databaseProxy) close() {
	_ = p.listener.Close()
	p.mutex.Lock()
	p.closed = true
	for _, connection := range p.connections {
		_ = connection.Close()
	}
	p.mutex.Unlock()
	p.running.Wait()
}

func (p *databaseProxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() {
			defer func() { _ = client.Close() }()
			f := p.current()
			if !f.alive() || !p.keep(client) {
				return
			}
			server, err := net.Dial("tcp", p.server)
			if err != nil {
				return
			}
			defer func() { _ = server.Close() }()
			if p.keep(server) {
				(&proxied{fuse: f, client: client, server: server, statements: map[string]string{}}).pass()
			}
		})
	}
}

// keep notes a connection that is to be closed with the proxy.
func (p *databaseProxy) keep(connection net.Conn) bool {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.connections = append(p.connections, connection)
	return !p.closed
}

// proxied is one connection.
type proxied struct {
	fuse           *fuse
	client, server net.Conn
	// statements are the prepared ones by name; bound is the one that is executed next.
	statements map[string]string
	bound      string
	// within says that a transaction is open, changed that it has changed something.
	within, changed bool
	// lost is set once no answer of the server's comes back any more.
	lost atomic.Bool
}

// pass hands messages on until one side is gone, or the fuse says so.
func (c *proxied) pass() {
	var answers sync.WaitGroup
	answers.Go(func() {
		defer func() { _ = c.client.Close() }()
		buffer := make([]byte, 1<<16)
		for {
			n, err := c.server.Read(buffer)
			if err != nil || c.lost.Load() {
				return
			}
			if _, err := c.client.Write(buffer[:n]); err != nil {
				return
			}
		}
	})
	_ = c.requests()
	if !c.lost.Load() {
		_ = c.server.Close()
	}
	answers.Wait()
	_ = c.server.Close()
}

func (c *proxied) requests() error {
	// The first message has no type: its length and, as the case may be, parameters or a request to cancel.
	if err := c.hand(nil, passes); err != nil {
		return err
	}
	for {
		kind := make([]byte, 1)
		if _, err := io.ReadFull(c.client, kind); err != nil {
			return err
		}
		if err := c.hand(kind, passes); err != nil {
			return err
		}
	}
}

// hand hands one message on, if the fuse lets it.
func (c *proxied) hand(kind []byte, become verdict) error {
	const lengthBytes = 4
	length := make([]byte, lengthBytes)
	if _, err := io.ReadFull(c.client, length); err != nil {
		return err
	}
	body := make([]byte, binary.BigEndian.Uint32(length)-lengthBytes)
	if _, err := io.ReadFull(c.client, body); err != nil {
		return err
	}
	if kind != nil {
		if !c.fuse.alive() {
			return errCrashed
		}
		if sql := c.executed(kind[0], body); sql != "" {
			become = c.judge(sql)
		}
	}
	if become == refuses {
		return errCrashed
	}
	if become == loses {
		c.lost.Store(true)
	}
	_, err := c.server.Write(slices.Concat(kind, length, body))
	if become == loses {
		return errors.Join(err, errCrashed)
	}
	return err
}

// executed is the statement that a message executes, empty if none.
func (c *proxied) executed(kind byte, body []byte) string {
	text := func() string {
		word, rest, _ := bytes.Cut(body, []byte{0})
		body = rest
		return string(word)
	}
	switch kind {
	case 'Q': // Query
		return text()
	case 'P': // Parse: name and statement
		name := text()
		c.statements[name] = text()
	case 'B': // Bind: portal and name
		_ = text()
		c.bound = c.statements[text()]
	case 'E': // Execute
		return c.bound
	}
	return ""
}

// judge asks the fuse about a statement, if it changes something at last.
func (c *proxied) judge(sql string) verdict {
	verb, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(sql)), " ")
	switch {
	case verb == "begin":
		c.within, c.changed = true, false
		return passes
	case verb == "rollback":
		c.within = false
		return passes
	case verb == "commit":
		c.within = false
		if !c.changed {
			return passes
		}
	case slices.Contains([]string{"select", "show", "set", "deallocate"}, verb):
		return passes
	case c.within:
		c.changed = true
		return passes
	}
	if len(sql) > longestNoted {
		sql = sql[:longestNoted]
	}
	return c.fuse.change("SQL " + sql)
}

// longestNoted is enough of a statement to know it by, and too little for a password's verifier.
const longestNoted = 70
