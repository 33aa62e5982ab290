package fcmtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	// maxData is Google's limit for the data of a message in bytes.
	maxData = 4096
	// maxTTL is 28 days.
	maxTTL = 28 * 24 * time.Hour
)

// Message is a message as the app gets it.
type Message struct {
	// Name is what Google calls it.
	Name string
	Data map[string]string
	// Priority is HIGH or NORMAL.
	Priority    string
	TTL         time.Duration
	CollapseKey string
}

// The request body of messages:send, as far as the fake lets it be used.
type sendRequest struct {
	ValidateOnly bool         `json:"validate_only"`
	Message      *sentMessage `json:"message"`
}

type sentMessage struct {
	Data      map[string]string `json:"data"`
	Android   *sentAndroid      `json:"android"`
	Token     string            `json:"token"`
	Topic     string            `json:"topic"`
	Condition string            `json:"condition"`
}

type sentAndroid struct {
	CollapseKey           string            `json:"collapse_key"`
	Priority              string            `json:"priority"`
	TTL                   string            `json:"ttl"`
	RestrictedPackageName string            `json:"restricted_package_name"`
	Data                  map[string]string `json:"data"`
	DirectBootOK          bool              `json:"direct_boot_ok"`
}

// ttlForm is how JSON writes a google.protobuf.Duration.
var ttlForm = regexp.MustCompile(`^(\d+)(\.\d{1,9})?s$`)

// reservedKeys may not stand in the data.
var reservedKeys = regexp.MustCompile(`^(from|message_type|collapse_key|notification|google.*|gcm\..*)$`)

// violation is what is wrong with a message: the field and why.
type violation struct{ field, why string }

// readMessage reads a request's body as strictly as Google does.
func readMessage(body []byte) (*sentMessage, *violation) {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	var request sendRequest
	if err := decoder.Decode(&request); err != nil || decoder.More() {
		return nil, &violation{"message", "Invalid JSON payload received: an unknown field or a value of a wrong type"}
	}
	m := request.Message
	if m == nil {
		return nil, &violation{"message", "Message is missing"}
	}
	targets := 0
	for _, target := range []string{m.Token, m.Topic, m.Condition} {
		if target != "" {
			targets++
		}
	}
	if targets != 1 {
		return nil, &violation{"message", "Exactly one of token, topic or condition must be specified"}
	}
	return m, checkMessage(m)
}

func checkMessage(m *sentMessage) *violation {
	size := 0
	for key, value := range m.Data {
		if key == "" || reservedKeys.MatchString(key) {
			return &violation{"message.data", "Invalid data payload key"}
		}
		size += len(key) + len(value)
	}
	if size > maxData {
		return &violation{"message.data", "Android message is too big"}
	}
	if m.Android == nil {
		return nil
	}
	switch strings.ToUpper(m.Android.Priority) {
	case "HIGH", "NORMAL", "":
	default:
		return &violation{"message.android.priority", "Invalid value"}
	}
	if _, ok := ttl(m.Android.TTL); !ok {
		return &violation{"message.android.ttl", "Invalid value: a duration in seconds of at most 28 days"}
	}
	return nil
}

// ttl reads a duration; without one a message is kept as long as possible.
func ttl(text string) (time.Duration, bool) {
	if text == "" {
		return maxTTL, true
	}
	parts := ttlForm.FindStringSubmatch(text)
	if parts == nil {
		return 0, false
	}
	seconds, err := strconv.ParseInt(parts[1], 10, 32)
	life := time.Duration(seconds) * time.Second
	return life, err == nil && life <= maxTTL
}

// asMessage is what the app gets of a valid message.
func asMessage(sent *sentMessage, name string) Message {
	m := Message{Name: name, Data: sent.Data, Priority: "NORMAL", TTL: maxTTL}
	if sent.Android != nil {
		m.TTL, _ = ttl(sent.Android.TTL)
		m.CollapseKey = sent.Android.CollapseKey
		if sent.Android.Priority != "" {
			m.Priority = strings.ToUpper(sent.Android.Priority)
		}
	}
	return m
}

// AddDevice registers a phone with the app. Adding it again installs the app again.
func (s *Server) AddDevice(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.devices[token] = true
}

// Unregister removes the app from a phone: its token is answered UNREGISTERED from now on.
func (s *Server) Unregister(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.devices[token]; known {
		s.devices[token] = false
	}
}

// Messages returns what a phone was sent, in order.
func (s *Server) Messages(token string) []Message { return s.received.List(token) }

// Wait returns like Messages as soon as the phone was sent n in all, or when ctx ends.
func (s *Server) Wait(ctx context.Context, token string, n int) ([]Message, error) {
	return s.received.Wait(ctx, token, n)
}

// Judge reads the body of messages:send as Google does when somebody else passes it on, and returns the message, or why
// Google would refuse it.
func Judge(body []byte) (Message, error) {
	sent, wrong := readMessage(body)
	if wrong != nil {
		return Message{}, errors.New(wrong.field + ": " + wrong.why)
	}
	return asMessage(sent, ""), nil
}
