package server

import (
	"log/slog"
	"net/http"
)

// maxLoggedPath bounds what a line of the log repeats of a request.
const maxLoggedPath = 200

// logRequests logs every request at level debug, `alive` and Exchange's posts too (L-23), without its query: that of a post
// holds a sealed credential.
func (s *Server) logRequests(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.log.Enabled(r.Context(), slog.LevelDebug) {
			next.ServeHTTP(w, r)
			return
		}
		began := s.clock.Now()
		answer := &answer{ResponseWriter: w, status: http.StatusOK}
		defer func() {
			s.log.DebugContext(r.Context(), "Request served", "method", r.Method,
				"path", r.URL.Path[:min(len(r.URL.Path), maxLoggedPath)], "status", answer.status, "took", s.clock.Since(began))
		}()
		next.ServeHTTP(answer, r)
	})
}

// answer notes its status.
type answer struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach what is below.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
