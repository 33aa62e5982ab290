package config

import "strings"

// ForwardProxy is an HTTP proxy that connections are tunnelled through (CONNECT).
type ForwardProxy struct {
	// URL is http:// with host and port.
	URL string `json:"url"`
	// Authenticate says that user name and password are in files: of a push provider in push/<name>/proxy-username and
	// push/<name>/proxy-password.
	Authenticate bool `json:"authenticate,omitempty"`
}

func (f *findings) proxy(field string, p *ForwardProxy) {
	if p == nil {
		return
	}
	u := f.url(field+".url", p.URL, "http")
	if u != nil && (u.Port() == "" || strings.Trim(u.Path, "/") != "") {
		f.add(field+".url", "want http:// with host and port, e.g. http://proxy.example.com:3128")
	}
}

// credentialFiles are the files that a proxy needs of whom it is for.
func (p *ForwardProxy) credentialFiles(of string) []credentialFile {
	if p == nil || !p.Authenticate {
		return nil
	}
	return []credentialFile{
		{ProxyUsernameFile, maxPasswordFile, "want the proxy's user name of " + of},
		{ProxyPasswordFile, maxPasswordFile, "want the proxy's password of " + of},
	}
}
