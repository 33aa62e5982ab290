package autodiscovertest

import (
	"cmp"
	"compress/gzip"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// maxRequestBytes is far above what clients send.
	maxRequestBytes = 64 << 10
	// dribble is how often a tarpit sends a byte.
	dribble = 20 * time.Millisecond
)

// paths are the forms by their path in lower case: IIS does not look at the case.
var paths = map[string]Form{
	"/autodiscover/autodiscover.json": JSON,
	"/autodiscover/autodiscover.svc":  SOAP,
	"/autodiscover/autodiscover.xml":  POX,
}

// jsonPathPrefix is that of JSON with the address in the path.
const jsonPathPrefix = "/autodiscover/autodiscover.json/v1.0/"

// answer is what a request is answered with.
type answer struct {
	status      int
	location    string
	contentType string
	content     []byte
	// problem is why the real service would not have taken the request.
	problem string
}

func page(status int) answer {
	return answer{status: status, contentType: "text/html", content: []byte("<html><h2>" + http.StatusText(status) + "</h2></html>")}
}

// refusal is an answer to a request that is wrong.
func refusal(status int, problem string) answer {
	a := page(status)
	a.problem = problem
	return a
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	content, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequestBytes))
	if err != nil {
		return
	}
	entry := s.entry(r)
	s.mu.Lock()
	host, known := s.hosts[entry.Host]
	s.mu.Unlock()
	q := &question{request: r, content: content, entry: &entry, fault: host.Faults[entry.Form]}
	if q.fault.Tarpit && known && r.TLS != nil {
		entry.Status = http.StatusOK
		s.record(entry)
		s.dribble(w, r)
		return
	}
	var a answer
	switch {
	case !known:
		a = refusal(http.StatusMisdirectedRequest, "the Host header names another host than the handshake")
	case r.TLS == nil:
		a = redirect(q, host)
	default:
		a = s.answer(q, host)
	}
	entry.Status, entry.Problem = a.status, a.problem
	s.record(entry)
	s.write(w, r, a)
}

// entry is what can be told of any request. Its host is empty if the Host header and the handshake differ.
func (s *Server) entry(r *http.Request) Request {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if r.TLS != nil && r.TLS.ServerName != host {
		host = ""
	}
	form := paths[strings.ToLower(r.URL.Path)]
	if strings.HasPrefix(strings.ToLower(r.URL.Path), jsonPathPrefix) {
		form = JSON
	}
	return Request{
		Host: host, TLS: r.TLS != nil, Form: form, Method: r.Method, Path: r.URL.Path,
		HadCredential: r.Header.Get("Authorization") != "" || r.TLS != nil && len(r.TLS.PeerCertificates) > 0,
		HadCookie:     r.Header.Get("Cookie") != "", ClientRequestID: r.Header.Get("client-request-id"), UserAgent: r.UserAgent(),
	}
}

func (s *Server) record(entry Request) {
	s.logf("autodiscovertest: %s %s at %s: status %d %s", entry.Method, entry.Form, entry.Host, entry.Status, entry.Problem)
	s.records.add(entry)
}

// redirect is what plain HTTP answers.
func redirect(q *question, host Host) answer {
	switch {
	case q.entry.HadCredential:
		return refusal(http.StatusForbidden, "a credential over plain HTTP")
	case q.request.Method != http.MethodGet || q.entry.Form != POX:
		return refusal(http.StatusNotFound, "only GET of /autodiscover/autodiscover.xml is redirected")
	}
	return answer{status: cmp.Or(host.RedirectStatus, http.StatusFound), location: host.Redirect}
}

// dribble answers a byte at a time until the client has had enough.
func (s *Server) dribble(w http.ResponseWriter, r *http.Request) {
	ticker := time.NewTicker(dribble)
	defer ticker.Stop()
	for {
		if _, err := w.Write([]byte(" ")); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-ticker.C:
		case <-r.Context().Done():
			return
		case <-s.ctx.Done():
			return
		}
	}
}

// write sends an answer, with or without Content-Length, compressed if the client takes it.
func (s *Server) write(w http.ResponseWriter, r *http.Request, a answer) {
	if a.location != "" {
		w.Header().Set("Location", a.location)
	}
	if a.status == http.StatusUnauthorized {
		w.Header()["Www-Authenticate"] = []string{"Negotiate", "NTLM", `Basic realm="` + r.Host + `"`}
	}
	// Exchange sets cookies that lead to a user's own server.
	http.SetCookie(w, &http.Cookie{Name: "X-BackEndCookie", Value: url.QueryEscape(r.Host), Path: "/autodiscover", Secure: true})
	w.Header().Set("Server", "Microsoft-IIS/10.0")
	if a.contentType != "" {
		w.Header().Set("Content-Type", a.contentType)
	}
	if s.draws() && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		w.Header().Set("Content-Encoding", "gzip")
		w.WriteHeader(a.status)
		compressor := gzip.NewWriter(w)
		_, _ = compressor.Write(a.content)
		_ = compressor.Close()
		return
	}
	if !s.draws() {
		w.Header().Set("Content-Length", strconv.Itoa(len(a.content)))
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.content)
}

// draws decides whether to be awkward, once in two times.
func (s *Server) draws() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.options.Calm && s.random.IntN(2) == 0
}
