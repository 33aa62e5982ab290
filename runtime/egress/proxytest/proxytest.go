// Package proxytest is a strict forward proxy: it tunnels connections (CONNECT) to the places it was told of, for who
// signs in, and refuses everything else.
package proxytest

import (
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
)

// Proxy is a running proxy. Close it after use.
type Proxy struct {
	server *httptest.Server
	want   string

	mu sync.Mutex
	// routes lead from the host:port that a client asks for to where it stands.
	routes map[string]string
	passed int
	asked  int
}

// Start starts a proxy. With a user name it wants Basic authentication (C-10).
func Start(username, password string) *Proxy {
	p := &Proxy{routes: map[string]string{}}
	if username != "" {
		p.want = "Basic " + base64.StdEncoding.EncodeToString([]byte(username+":"+password))
	}
	p.server = httptest.NewServer(p)
	return p
}

// URL is the proxy's address, for config.ForwardProxy.
func (p *Proxy) URL() string { return p.server.URL }

// Permit lets connections to the server at address, a URL, through.
func (p *Proxy) Permit(address string) {
	target := host(address)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.routes[target] = target
}

// Route returns an address that leads to the server at address by way of the proxy and nowhere without it: a port of
// localhost at which nothing can listen.
func (p *Proxy) Route(address string) string {
	target := host(address)
	p.mu.Lock()
	defer p.mu.Unlock()
	alias := fmt.Sprintf("localhost:%d", len(p.routes)+1) // below 1024, and of services long forgotten
	p.routes[alias] = target
	u, _ := url.Parse(address)
	u.Host = alias
	return u.String()
}

func host(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Port() == "" {
		panic("proxytest: want an address with host and port, have " + address)
	}
	return u.Host
}

// Passed is how many connections were let through, Asked how many requests there were.
func (p *Proxy) Passed() int { return p.count(&p.passed) }

// Asked is how many requests there were.
func (p *Proxy) Asked() int { return p.count(&p.asked) }

func (p *Proxy) count(n *int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return *n
}

// Close ends all connections but those that are tunnelled, which end with either side.
func (p *Proxy) Close() { p.server.Close() }

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.asked++
	address, permitted := p.routes[r.Host]
	p.mu.Unlock()
	switch {
	case r.Method != http.MethodConnect:
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	case p.want != "" && r.Header.Get("Proxy-Authorization") != p.want:
		w.Header().Set("Proxy-Authenticate", `Basic realm="proxy"`)
		w.WriteHeader(http.StatusProxyAuthRequired)
		return
	case !permitted, r.Header.Get("Authorization") != "":
		w.WriteHeader(http.StatusForbidden)
		return
	}
	target, err := net.Dial("tcp", address)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		panic("proxytest: the connection cannot be taken over")
	}
	client, buffered, err := hijacker.Hijack()
	if err != nil {
		_ = target.Close()
		return
	}
	p.mu.Lock()
	p.passed++
	p.mu.Unlock()
	_, _ = client.Write([]byte("HTTP/1.1 200 Connection established\r\n\r\n"))
	go tunnel(target, buffered, client)
	go tunnel(client, target, target)
}

// tunnel copies until one side ends, and ends both.
func tunnel(to net.Conn, from io.Reader, source net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.Close()
	_ = source.Close()
}
