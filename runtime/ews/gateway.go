package ews

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// transactionHeader is how a SEG names a transaction for its own log (G-06).
const transactionHeader = "X-AW-SEG-TRANSACTION-ID"

// gatewayHints say what an administrator can do about the answers of a SEG (G-07 to G-11).
var gatewayHints = map[int]string{
	http.StatusNoContent:  "the SEG has not loaded its policy data yet",
	http.StatusBadRequest: "the SEG knows none of the user's devices; have they enrolled, and does the SEG get its policies from the UEM console?",
	http.StatusForbidden:  "none of the user's devices is compliant for the SEG",
	http.StatusNotFound:   "is the EWS proxy of the SEG switched on (enable.boxer.ens.ews.proxy=true)?",
}

// gateway is what a session has told a SEG and heard from it. All of it is about the last call.
type gateway struct {
	// devices are the ids for the next call.
	devices []string
	// transaction is the SEG's name for the call, empty if it gave none.
	transaction string
	// sent are the ids that went with the call, nil if it failed, and statuses what the answer says of each, by the id in
	// lower case.
	sent     []string
	statuses map[string]bool
}

// SetDevices says for which devices the calls from now on are, by their EAS ids (G-05). Through a SEG they are named in
// every call (G-01), first the one that matters most; otherwise they go nowhere. An id that cannot stand in a header's
// list is left out.
func (s *Session) SetDevices(ids ...string) {
	s.gateway.devices = nil
	for _, id := range ids {
		if sendable(id) {
			s.gateway.devices = append(s.gateway.devices, id)
		}
	}
}

// sendable reports whether an id is printable ASCII without the list's comma and blanks.
func sendable(id string) bool {
	for i := range len(id) {
		if c := id[i]; c <= ' ' || c > '~' || c == ',' {
			return false
		}
	}
	return id != ""
}

// Verdict tells after a successful call whether a SEG lets this device have what came back. Without a SEG it does. A SEG
// answers as soon as one of the devices is compliant, so the others count only if the answer names their status or if
// the call was for this one alone; else known is false, and the device needs a call of its own.
func (s *Session) Verdict(deviceID string) (permitted, known bool) {
	if s.client.options.Endpoint.SecureEmailGateway == nil {
		return true, true
	}
	if permitted, known = s.gateway.statuses[strings.ToLower(deviceID)]; known {
		return permitted, true
	}
	alone := len(s.gateway.sent) == 1 && strings.EqualFold(s.gateway.sent[0], deviceID)
	return alone, alone
}

// NamesNone reports whether a SEG is known to answer for several devices without naming them: of such a call nobody learns
// more than of one for each of them.
func (s *Session) NamesNone() bool { return s.client.namesNone.Load() }

// GatewayTransaction is the SEG's own name for the last call, by which its log can be searched (G-06). It is empty if
// there is no SEG or it gave none.
func (s *Session) GatewayTransaction() string { return s.gateway.transaction }

// forgetLast makes ready for the next call.
func (g *gateway) forgetLast() { *g = gateway{devices: g.devices} }

// nameDevices sets the headers of a call through a SEG.
func (s *Session) nameDevices(header http.Header) {
	seg := s.client.options.Endpoint.SecureEmailGateway
	if seg == nil || len(s.gateway.devices) == 0 {
		return
	}
	header.Set(seg.DeviceIDHeader, s.gateway.devices[0])
	header.Set(seg.DevicesHeader, strings.Join(s.gateway.devices, ","))
}

// hearGateway takes the name of the transaction from an answer.
func (s *Session) hearGateway(header http.Header) {
	if s.client.options.Endpoint.SecureEmailGateway != nil {
		s.gateway.transaction = transactionID(header.Get(transactionHeader))
	}
}

// hearVerdicts takes the devices' statuses from the answer to a successful call.
func (s *Session) hearVerdicts(header http.Header) {
	if seg := s.client.options.Endpoint.SecureEmailGateway; seg != nil {
		s.gateway.sent = s.gateway.devices
		s.gateway.statuses = deviceStatuses(header.Values(seg.DevicesHeader))
		if named := len(s.gateway.statuses) > 0; named || len(s.gateway.sent) > 1 {
			s.client.namesNone.Store(!named)
		}
	}
}

// transactionID returns text if it is a UUID as in G-06, and nothing if it is anything else, since it is logged.
func transactionID(text string) string {
	if len(text) != len(uuid.Nil.String()) || uuid.Validate(text) != nil {
		return ""
	}
	return text
}

// deviceStatuses reads `id:status,id:status` (G-05): which ids, in lower case, have a status of success. What is no
// entry is passed over; if an id stands there twice, the refusal counts.
func deviceStatuses(values []string) map[string]bool {
	statuses := map[string]bool{}
	for _, value := range values {
		for entry := range strings.SplitSeq(value, ",") {
			entry = strings.TrimSpace(entry)
			colon := strings.LastIndexByte(entry, ':')
			if colon <= 0 {
				continue
			}
			id := strings.ToLower(strings.TrimSpace(entry[:colon]))
			status, err := strconv.ParseUint(strings.TrimSpace(entry[colon+1:]), 10, 16)
			if err != nil || !sendable(id) {
				continue
			}
			permitted := status >= http.StatusOK && status < http.StatusMultipleChoices
			if before, twice := statuses[id]; twice {
				permitted = permitted && before
			}
			statuses[id] = permitted
		}
	}
	return statuses
}
