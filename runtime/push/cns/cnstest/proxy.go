package cnstest

import (
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
)

// Proxy is a forward proxy that tunnels connections (CONNECT) and does nothing else. Close it after use.
type Proxy struct {
	server *httptest.Server
	want   string
	passed atomic.Int64
}

// StartProxy starts a proxy. With a user name it wants Basic authentication (C-10).
func StartProxy(username, password string) *Proxy {
	p := &Proxy{}
	if username != "" {
		p.want = "Basic " + base64.StdEncoding.EncodeToString([]byte(username+":"+password))
	}
	p.server = httptest.NewServer(p)
	return p
}

// URL is the proxy's address, for config.ForwardProxy.
func (p *Proxy) URL() string { return p.server.URL }

// Passed is how many connections were let through.
func (p *Proxy) Passed() int { return int(p.passed.Load()) }

// Close ends all connections but those that are tunnelled, which end with either side.
func (p *Proxy) Close() { p.server.Close() }

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method != http.MethodConnect:
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	case p.want != "" && r.Header.Get("Proxy-Authorization") != p.want:
		w.Header().Set("Proxy-Authenticate", `Basic realm="proxy"`)
		w.WriteHeader(http.StatusProxyAuthRequired)
		return
	}
	target, err := net.Dial("tcp", r.Host)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		panic("cnstest: the connection cannot be taken over")
	}
	client, buffered, err := hijacker.Hijack()
	if err != nil {
		_ = target.Close()
		return
	}
	p.passed.Add(1)
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
