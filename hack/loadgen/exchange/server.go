package exchange

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Options change how the server behaves.
type Options struct {
	// Listen is the address to listen on, an IP address and a port; 127.0.0.1 and a free port if empty.
	Listen string
	// Mailboxes is how many there are.
	Mailboxes int
	// Delay is how long each request takes on the server.
	Delay time.Duration
	// Observe is told how long a request for a mail was held, from its first byte to the last of the answer. It is called by
	// many goroutines.
	Observe func(mailbox Mailbox, mail uint64, held time.Duration)
	// Unread is a mailbox's count, for those who ask.
	Unread func(Mailbox) int
	// Subscribed is told the webhook of each subscription that is made, before Subscribe is answered, and posts to it. It is
	// called by many goroutines.
	Subscribed func(Mailbox, Target)
	// Webhook is told the address of each webhook, without its query, before Subscribed is: a subscription is refused if it gives
	// an error. Every address will do if it is nil.
	Webhook func(*url.URL) error
	// Newest are a mailbox's unread mails, the newest first.
	Newest func(Mailbox) []Listed
	// Now is the time by the server's clock; nil is time.Now.
	Now func() time.Time
	// Scheme is the only way of authenticating that is switched on; Basic unless set.
	Scheme Scheme
}

// Server answers what the runtime asks Exchange after a post.
type Server struct {
	options     Options
	certificate tls.Certificate
	http        *http.Server
	listener    net.Listener
	refused     atomic.Int64
	requests    atomic.Int64
	delay       atomic.Int64
	problem     atomic.Pointer[string]
	// webhooks are the latest by mailbox, subscriptions how many were made.
	webhooks      sync.Map
	subscriptions atomic.Int64
	passwords     passwords
	tokenKey      []byte
}

// path is where every Exchange server serves EWS.
const path = "/EWS/Exchange.asmx"

// Start starts a server.
func Start(options Options) (*Server, error) {
	if options.Now == nil {
		options.Now = time.Now
	}
	if options.Scheme == "" {
		options.Scheme = Basic
	}
	if options.Listen == "" {
		options.Listen = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", options.Listen)
	if err != nil {
		return nil, fmt.Errorf("listening for the simulated Exchange: %w", err)
	}
	certificate, err := newCertificate(listener.Addr())
	if err != nil {
		return nil, fmt.Errorf("making the certificate of the simulated Exchange: %w", err)
	}
	s := &Server{options: options, certificate: certificate, listener: listener, tokenKey: newTokenKey()}
	s.SetDelay(options.Delay)
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+path, s.serve)
	s.http = &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: time.Minute,
		ConnContext:       withConnection,
		ErrorLog:          log.New(io.Discard, "", 0), // a client that ends closes its connections
		TLSConfig: &tls.Config{
			Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
			CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384}, // those that Windows has switched on
		},
	}
	go func() { _ = s.http.ServeTLS(listener, "", "") }() // ends with Close
	return s, nil
}

// SetDelay changes how long each request takes from now on.
func (s *Server) SetDelay(d time.Duration) { s.delay.Store(int64(d)) }

// URL is the EWS address.
func (s *Server) URL() string { return "https://" + s.listener.Addr().String() + path }

// Fingerprint is the SHA-256 of the certificate in lower-case hex, as it is pinned.
func (s *Server) Fingerprint() string {
	sum := sha256.Sum256(s.certificate.Certificate[0])
	return hex.EncodeToString(sum[:])
}

// CertificatePEM is the certificate as an authority of its own.
func (s *Server) CertificatePEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.certificate.Certificate[0]})
}

// Client is a client that trusts the server, for tests.
func (s *Server) Client() *http.Client {
	roots := x509.NewCertPool()
	roots.AddCert(s.certificate.Leaf)
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}
}

// Close ends the server.
func (s *Server) Close() { _ = s.http.Close() }

// Requests is how many were answered, Refused how many of them not as was asked.
func (s *Server) Requests() (answered, refused int64) { return s.requests.Load(), s.refused.Load() }

// Problem is why the last refused request was refused, empty if none was.
func (s *Server) Problem() string {
	if problem := s.problem.Load(); problem != nil {
		return *problem
	}
	return ""
}

// maxRequest is far more than a request takes.
const maxRequest = 1 << 20

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	s.requests.Add(1)
	body, err := io.ReadAll(io.LimitReader(r.Body, maxRequest))
	if err != nil {
		return // the client has gone
	}
	user, ok := s.admit(w, r)
	if !ok {
		return
	}
	if err := s.pause(r.Context()); err != nil {
		return
	}
	answer, mails, err := s.answer(user, body)
	if err != nil {
		s.refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
	_, _ = w.Write(answer)
	if s.options.Observe != nil {
		held := time.Since(began)
		for _, mail := range mails {
			s.options.Observe(user, mail, held)
		}
	}
}

func (s *Server) pause(ctx context.Context) error {
	delay := time.Duration(s.delay.Load())
	if delay <= 0 {
		return nil
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

const (
	answerBegin = `<?xml version="1.0" encoding="utf-8"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Header>` +
		`<h:ServerVersionInfo xmlns:h="http://schemas.microsoft.com/exchange/services/2006/types" MajorVersion="15" MinorVersion="1"` +
		` MajorBuildNumber="2507" MinorBuildNumber="6" Version="Exchange2016"/></s:Header><s:Body>`
	answerEnd = `</s:Body></s:Envelope>`
	// namespaces are declared at the body's element.
	namespaces = ` xmlns:m="http://schemas.microsoft.com/exchange/services/2006/messages" xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types">`
)

// answer is the answer to a request of a user, and the mails of which a post told the runtime.
func (s *Server) answer(user Mailbox, request []byte) (answer []byte, mails []uint64, err error) {
	if int(user) > s.options.Mailboxes {
		return nil, nil, errCredential
	}
	switch {
	case bytes.Contains(request, []byte("<m:GetItem>")):
		return s.getItem(user, request)
	case bytes.Contains(request, []byte("<m:GetFolder>")) && bytes.Contains(request, []byte(`Id="inbox"`)):
		return s.getFolder(user), nil, checkAddressed(user, string(request))
	case bytes.Contains(request, []byte("<m:ResolveNames ")):
		answer, err = resolveNames(user, string(request))
		return answer, nil, err
	case bytes.Contains(request, []byte("<m:Subscribe>")):
		answer, err = s.subscribe(user, string(request))
		return answer, nil, err
	case bytes.Contains(request, []byte("<m:FindItem ")):
		answer, err = s.findItem(user, string(request))
		return answer, nil, err
	default:
		return nil, nil, errors.New("an operation that the runtime has no use for")
	}
}

func (s *Server) getFolder(user Mailbox) []byte {
	unread := 0
	if s.options.Unread != nil {
		unread = s.options.Unread(user)
	}
	return fmt.Appendf(nil, `%s<m:GetFolderResponse%s<m:ResponseMessages><m:GetFolderResponseMessage ResponseClass="Success">`+
		`<m:ResponseCode>NoError</m:ResponseCode><m:Folders><t:Folder><t:FolderId Id="%s" ChangeKey="%s"/><t:UnreadCount>%d</t:UnreadCount>`+
		`</t:Folder></m:Folders></m:GetFolderResponseMessage></m:ResponseMessages></m:GetFolderResponse>%s`,
		answerBegin, namespaces, user.InboxID(), changeKey(user, changeOfInbox), unread, answerEnd)
}

// getItem answers for mails of the user's own, and refuses if one is another's: a credential was taken for somebody else's.
func (s *Server) getItem(user Mailbox, request []byte) (answer []byte, mails []uint64, err error) {
	wants := func(field string) bool { return bytes.Contains(request, []byte(`FieldURI="`+field+`"`)) }
	answer = append(make([]byte, 0, answerSize), answerBegin+`<m:GetItemResponse`+namespaces+`<m:ResponseMessages>`...)
	const mark = `ItemId Id="`
	for rest := string(request); ; {
		_, after, found := strings.Cut(rest, mark)
		if !found {
			break
		}
		text, after, _ := strings.Cut(after, `"`)
		rest = after
		mailbox, mail, err := ParseItemID(text)
		if err != nil {
			return nil, nil, err
		}
		if mailbox != user {
			return nil, nil, errors.New("one user's credential came for another's mail")
		}
		mails = append(mails, mail)
		answer = appendItem(answer, user, mail, text, s.options.Now(), wants)
	}
	if len(mails) == 0 {
		return nil, nil, errors.New("a GetItem without items")
	}
	return append(answer, `</m:ResponseMessages></m:GetItemResponse>`+answerEnd...), mails, nil
}

// answerSize is more than an answer about one mail takes, in bytes.
const answerSize = 4096

// Subject is a mail's.
func Subject(mail uint64) string { return "Minutes of meeting number " + strconv.FormatUint(mail, 10) }

// Sender is whom every mail comes from.
const (
	senderName    = "Barbara Liskov"
	senderAddress = "barbara@elsewhere.example.com"
	preview       = "Dear all, please find below the minutes of today's meeting. We have agreed on the next steps, which everybody " +
		"may begin with at once; the few questions that are left open are for next week. Do tell me what I have missed."
)

// appendItem writes one mail in the schema's order.
func appendItem(b []byte, user Mailbox, mail uint64, itemID string, received time.Time, wants func(string) bool) []byte {
	const mailbox = `<t:Mailbox><t:Name>` + senderName + `</t:Name><t:EmailAddress>` + senderAddress +
		`</t:EmailAddress><t:RoutingType>SMTP</t:RoutingType><t:MailboxType>OneOff</t:MailboxType></t:Mailbox>`
	b = append(b, `<m:GetItemResponseMessage ResponseClass="Success"><m:ResponseCode>NoError</m:ResponseCode><m:Items><t:Message>`...)
	b = appendID(b, "ItemId", itemID, changeKey(user, mail*eventsPerMail+changeOfNew))
	if wants("item:ParentFolderId") {
		b = appendID(b, "ParentFolderId", user.InboxID(), changeKey(user, changeOfInbox))
	}
	put := func(field, content string) {
		if wants(field) {
			b = append(b, content...)
		}
	}
	put("item:ItemClass", `<t:ItemClass>IPM.Note</t:ItemClass>`)
	put("item:Subject", `<t:Subject>`+Subject(mail)+`</t:Subject>`)
	if wants("item:DateTimeReceived") {
		b = append(b, `<t:DateTimeReceived>`...)
		b = received.UTC().AppendFormat(b, time.RFC3339)
		b = append(b, `</t:DateTimeReceived>`...)
	}
	put("item:Preview", `<t:Preview>`+preview+`</t:Preview>`)
	put("message:Sender", `<t:Sender>`+mailbox+`</t:Sender>`)
	put("message:From", `<t:From>`+mailbox+`</t:From>`)
	put("message:IsRead", `<t:IsRead>false</t:IsRead>`)
	return append(b, `</t:Message></m:Items></m:GetItemResponseMessage>`...)
}

// newCertificate makes the server's own certificate: of an elliptic curve, as it costs the client little.
func newCertificate(address net.Addr) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), //nolint:mnd // a day
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if tcp, ok := address.(*net.TCPAddr); ok {
		template.IPAddresses = []net.IP{tcp.IP}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}
