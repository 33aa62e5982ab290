package apnstest

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// device is a phone with the app of one topic.
type device struct {
	topic string
	// gone is when the app was removed, zero while it is there.
	gone time.Time
}

// Notification is a push as the phone gets it.
type Notification struct {
	// ID is the apns-id.
	ID, Topic, PushType, CollapseID string
	// Priority is 10, 5 or 1.
	Priority int
	// Expiration is the header's value in seconds since 1970; 0 if the push is never stored, NoExpiration if the header
	// is missing and Apple stores it for as long as it likes.
	Expiration int64
	// Connection is the number of the connection it came over, from 1.
	Connection int
	// Received is when the request was complete, by the machine's clock: before any delay of the answer.
	Received time.Time
	// Payload is the whole JSON document, APS what the system reads of it.
	Payload json.RawMessage
	APS     APS
}

// NoExpiration is the Expiration of a push without the header.
const NoExpiration = -1

// APS is the part of a payload that belongs to the system.
type APS struct {
	Alert            *Alert `json:"alert"`
	Badge            *int   `json:"badge"`
	Sound            string `json:"sound"`
	MutableContent   int    `json:"mutable-content"`
	ContentAvailable int    `json:"content-available"`
	ThreadID         string `json:"thread-id"`
	Category         string `json:"category"`
}

// Alert is what the lock screen shows.
type Alert struct {
	Title    string `json:"title"`
	Subtitle string `json:"subtitle"`
	Body     string `json:"body"`
}

// Screen is what a phone shows after all its notifications.
type Screen struct {
	// Alerts are the banners, oldest first; a later one with the same collapse id has replaced the earlier.
	Alerts []Alert
	// Badge is the number on the app's icon; 0 shows none.
	Badge int
}

// AddDevice registers a phone that has the app of this topic. Adding it again installs the app again.
func (s *Server) AddDevice(token, topic string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.devices[strings.ToLower(token)] = &device{topic: topic}
	s.topics[topic] = true
}

// Unregister removes the app from a phone: its token is answered 410 with this time from now on.
func (s *Server) Unregister(token string, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.devices[strings.ToLower(token)]; d != nil {
		d.gone = at
	}
}

// Notifications returns what a phone was sent, in order.
func (s *Server) Notifications(token string) []Notification {
	return s.received.List(strings.ToLower(token))
}

// Wait returns like Notifications as soon as the phone was sent n in all, or when ctx ends.
func (s *Server) Wait(ctx context.Context, token string, n int) ([]Notification, error) {
	return s.received.Wait(ctx, strings.ToLower(token), n)
}

// Screen returns what the phone shows now.
func (s *Server) Screen(token string) Screen {
	var screen Screen
	shown := make(map[string]int)
	for _, n := range s.Notifications(token) {
		if n.APS.Badge != nil {
			screen.Badge = *n.APS.Badge
		}
		if n.APS.Alert == nil {
			continue
		}
		if at, known := shown[n.CollapseID]; known && n.CollapseID != "" {
			screen.Alerts[at] = *n.APS.Alert
			continue
		}
		shown[n.CollapseID] = len(screen.Alerts)
		screen.Alerts = append(screen.Alerts, *n.APS.Alert)
	}
	return screen
}

// deliver hands a valid push to the phone it is for, or refuses.
func (s *Server) deliver(token string, n Notification) *refusal {
	s.mu.Lock()
	d, known := s.devices[strings.ToLower(token)]
	topic := s.topics[n.Topic]
	var phone device
	if known {
		phone = *d
	}
	s.mu.Unlock()
	switch {
	case !topic:
		return refuse(http.StatusBadRequest, "TopicDisallowed", "no app of this topic is known")
	case !known:
		return refuse(http.StatusBadRequest, "BadDeviceToken", "no device with this token is known")
	case phone.topic != n.Topic:
		return refuse(http.StatusBadRequest, "DeviceTokenNotForTopic", "the device's app has another topic")
	case !phone.gone.IsZero():
		gone := refuse(http.StatusGone, "Unregistered", "the app was removed from the device")
		gone.timestamp = phone.gone
		return gone
	}
	if s.options.Observe != nil {
		s.options.Observe(strings.ToLower(token), n)
	} else {
		s.received.Add(strings.ToLower(token), n)
	}
	s.count(func(st *Stats) { st.Accepted++ })
	return nil
}
