package segtest

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
)

// ewsContext is the path below which EWS is passed on (G-12), compared without case.
const ewsContext = "/ews/"

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	entry := Request{
		DeviceID: r.Header.Get(s.options.DeviceIDHeader), ClientRequestID: r.Header.Get("client-request-id"), Transaction: uuid.NewString(),
	}
	if list := r.Header.Get(s.options.DevicesHeader); list != "" {
		entry.Devices = strings.Split(list, ",")
	}
	w.Header().Set(TransactionHeader, entry.Transaction)
	if entry.Status = s.decide(r, entry); entry.Status != 0 {
		if entry.Status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", ewstest.Basic.Challenge())
		}
		s.record(entry)
		w.WriteHeader(entry.Status)
		return
	}
	s.pass(w, r, entry)
}

func (s *Server) record(entry Request) {
	s.logf("segtest: %s for %d devices: status %d", entry.Transaction, len(entry.Devices), entry.Status)
	s.calls.AddNumbered(entry, func(r *Request, number int) { r.Number = number })
}

// decide is the status of a call that does not pass, or 0.
func (s *Server) decide(r *http.Request, entry Request) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.disabled || !strings.HasPrefix(strings.ToLower(r.URL.Path), ewsContext):
		return http.StatusNotFound
	case s.unloaded:
		return http.StatusNoContent
	case !wellFormed(entry) || len(r.Header.Values(s.options.DeviceIDHeader)) != 1 || len(r.Header.Values(s.options.DevicesHeader)) != 1:
		return http.StatusBadRequest
	}
	known := slices.DeleteFunc(slices.Clone(entry.Devices), func(id string) bool {
		_, known := s.policies[strings.ToLower(id)]
		return !known
	})
	switch {
	case len(known) == 0:
		return http.StatusBadRequest
	case !slices.ContainsFunc(known, func(id string) bool { return s.policies[strings.ToLower(id)] }):
		return http.StatusForbidden
	case unsupported(scheme(r)):
		return http.StatusUnauthorized
	}
	return 0
}

// scheme is that of a call's own credential, empty if there is none.
func scheme(r *http.Request) string {
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return scheme
}

// unsupported reports whether a scheme authenticates connections, which a gateway cannot pass through (G-13).
func unsupported(scheme string) bool {
	return strings.EqualFold(scheme, string(ewstest.NTLM)) || strings.EqualFold(scheme, string(ewstest.Negotiate))
}

// wellFormed reports whether the two headers agree: the first device is the one of the other header, and no id is empty,
// padded or there twice.
func wellFormed(entry Request) bool {
	seen := map[string]bool{}
	for _, id := range entry.Devices {
		lower := strings.ToLower(id)
		if id == "" || strings.TrimSpace(id) != id || seen[lower] {
			return false
		}
		seen[lower] = true
	}
	return len(entry.Devices) > 0 && entry.Devices[0] == entry.DeviceID
}

// pass sends the call on to Exchange and its answer back.
func (s *Server) pass(w http.ResponseWriter, r *http.Request, entry Request) {
	status, header, body := s.ask(r)
	entry.Forwarded, entry.Status = true, status
	maps.Copy(w.Header(), header)
	w.Header().Set(TransactionHeader, entry.Transaction)
	if s.options.NameDevices {
		w.Header()[http.CanonicalHeaderKey(s.options.DevicesHeader)] = s.statuses(entry.Devices)
	}
	s.record(entry)
	w.WriteHeader(status)
	_, _ = w.Write(body) // if the client has gone there is nobody to tell
}

// ask is the call to Exchange. Of the two parties' headers only those pass that are theirs from end to end.
func (s *Server) ask(r *http.Request) (status int, header http.Header, body []byte) {
	request, err := http.NewRequestWithContext(r.Context(), r.Method, s.options.Exchange.URL(), r.Body)
	if err != nil {
		return http.StatusBadGateway, nil, nil
	}
	request.ContentLength = r.ContentLength
	request.Header = r.Header.Clone()
	for _, own := range []string{"Connection", "Keep-Alive", ewstest.TrustedLoginHeader, s.options.DeviceIDHeader, s.options.DevicesHeader} {
		request.Header.Del(own)
	}
	if scheme(r) == "" && len(r.TLS.PeerCertificates) > 0 {
		request.Header.Set(ewstest.TrustedLoginHeader, s.options.TrustedProxy+" "+ewstest.CertificateUPN(r.TLS.PeerCertificates[0]))
	}
	response, err := s.upstream.RoundTrip(request)
	if err != nil {
		return http.StatusBadGateway, nil, nil
	}
	defer response.Body.Close()
	if body, err = io.ReadAll(response.Body); err != nil {
		return http.StatusBadGateway, nil, nil
	}
	header = response.Header
	for _, own := range []string{"Connection", "Keep-Alive", "Content-Length", "Transfer-Encoding"} {
		header.Del(own)
	}
	header["Www-Authenticate"] = slices.DeleteFunc(header["Www-Authenticate"], unsupported)
	return response.StatusCode, header, body
}

// statuses names the devices in an answer, e.g. `6C30D0304E7A4EE795494DEB0F465B72:200` (G-05).
func (s *Server) statuses(devices []string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var entries []string
	for _, id := range devices {
		status := http.StatusBadRequest
		if compliant, known := s.policies[strings.ToLower(id)]; compliant {
			status = http.StatusOK
		} else if known {
			status = http.StatusForbidden
		}
		if s.awkwardly() {
			id = strings.ToUpper(id)
		}
		entries = append(entries, fmt.Sprintf("%s:%d", id, status))
	}
	switch {
	case s.awkwardly():
		return entries
	case s.awkwardly():
		return []string{strings.Join(entries, ", ")}
	}
	return []string{strings.Join(entries, ",")}
}

// awkwardly is a choice that half of the time falls on the awkward side, never if the server is calm; s.mu is held.
func (s *Server) awkwardly() bool { return s.random.IntN(2) == 0 && !s.options.Calm }
