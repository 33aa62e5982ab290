package exchange

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
)

// Mailbox is a user by number, from 1. Everything about it follows from the number.
type Mailbox uint64

// domain is that of all addresses.
const domain = "@load.example.com"

// Address is the e-mail address, and the name to log in with.
func (m Mailbox) Address() string { return fmt.Sprintf("user-%07d%s", uint64(m), domain) }

// Password is the user's.
func (m Mailbox) Password() string { return fmt.Sprintf("pass-W0rd!-%07d", uint64(m)) }

// InboxID is the folder id of the Inbox.
func (m Mailbox) InboxID() string { return id(kindInbox, m, 0) }

// SubscriptionID is that of its only subscription.
func (m Mailbox) SubscriptionID() string { return id(kindSubscription, m, 0) }

// ItemID is the id of its mail with this number.
func (m Mailbox) ItemID(mail uint64) string { return id(kindItem, m, mail) }

// The kinds of ids.
const (
	kindInbox = iota + 1
	kindRoot
	kindItem
	kindSubscription
	kindChange
)

// Ids are as long as those of a real server: 152 characters, and 44 of a change key.
const (
	idBytes     = 111
	changeBytes = 33
	idPrefix    = "AAMk"
)

// id makes an id out of what it is of. It is opaque to clients.
func id(kind byte, mailbox Mailbox, number uint64) string {
	var raw [idBytes]byte
	content := fill(raw[:], kind, mailbox, number)
	return idPrefix + base64.StdEncoding.EncodeToString(content)
}

func changeKey(mailbox Mailbox, number uint64) string {
	var raw [changeBytes]byte
	return base64.StdEncoding.EncodeToString(fill(raw[:], kindChange, mailbox, number))
}

// fill writes what an id is of to its beginning, and to the rest bytes that look like a real id's.
func fill(raw []byte, kind byte, mailbox Mailbox, number uint64) []byte {
	raw[0] = kind
	binary.BigEndian.PutUint64(raw[1:], uint64(mailbox))
	binary.BigEndian.PutUint64(raw[9:], number)
	seed := uint64(mailbox)*0x9e3779b97f4a7c15 ^ number*0xbf58476d1ce4e5b9 ^ uint64(kind)
	for i := 17; i < len(raw); i++ {
		seed = seed*6364136223846793005 + 1442695040888963407 // Knuth's MMIX
		raw[i] = byte(seed >> 56)
	}
	return raw
}

var errForeignID = errors.New("an id that this server has not made")

// ParseItemID reads an item's id.
func ParseItemID(text string) (Mailbox, uint64, error) {
	if len(text) <= len(idPrefix) || text[:len(idPrefix)] != idPrefix {
		return 0, 0, errForeignID
	}
	var raw [idBytes]byte
	if base64.StdEncoding.DecodedLen(len(text)-len(idPrefix)) != idBytes {
		return 0, 0, errForeignID
	}
	if _, err := base64.StdEncoding.Decode(raw[:], []byte(text[len(idPrefix):])); err != nil || raw[0] != kindItem {
		return 0, 0, errForeignID
	}
	return Mailbox(binary.BigEndian.Uint64(raw[1:])), binary.BigEndian.Uint64(raw[9:]), nil
}

// parseAddress is the mailbox of an address.
func parseAddress(address string) (Mailbox, error) {
	number, found := cutAround(address, "user-", domain)
	value, err := strconv.ParseUint(number, 10, 64)
	if !found || err != nil || value == 0 {
		return 0, errors.New("no mailbox has this address")
	}
	return Mailbox(value), nil
}

func cutAround(text, prefix, suffix string) (string, bool) {
	if len(text) < len(prefix)+len(suffix) || text[:len(prefix)] != prefix || text[len(text)-len(suffix):] != suffix {
		return "", false
	}
	return text[len(prefix) : len(text)-len(suffix)], true
}
