package server

import (
	"crypto/tls"
	"errors"
	"net/http"
	"sync"

	"github.com/ens-operator/ens-operator/runtime/config"
)

func (s *Server) servePublic(server *http.Server) error {
	if !s.source.Current().Config.Server.TLS {
		return server.Serve(s.listeners.public)
	}
	served := &servedTLS{current: s.source.Current}
	server.TLSConfig = &tls.Config{GetConfigForClient: served.forClient}
	return server.ServeTLS(s.listeners.public, "", "")
}

// servedTLS is asked for each handshake, so that a renewed certificate or another oldest version needs no restart.
type servedTLS struct {
	current func() *config.Loaded

	mu sync.Mutex
	// settings were made of loaded.
	loaded   *config.Loaded
	settings *tls.Config
}

var errNoCertificate = errors.New("no certificate is mounted")

func (s *servedTLS) forClient(*tls.ClientHelloInfo) (*tls.Config, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	loaded := s.current()
	if loaded.Certificate == nil {
		return nil, errNoCertificate
	}
	if s.loaded != loaded {
		s.loaded = loaded
		s.settings = &tls.Config{
			MinVersion:   loaded.Config.Server.MinTLSVersion.Number(),
			Certificates: []tls.Certificate{*loaded.Certificate},
			NextProtos:   []string{"h2", "http/1.1"},
		}
	}
	return s.settings, nil
}
