package store

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Gap is what is to be looked up once there is a subscription again: what came since the last mail that was seen. Exchange
// tells arrivals by the second, so of that second it is remembered which mails were seen.
type Gap struct {
	Since time.Time
	Seen  []ItemHash
}

// ItemHash stands for an item id where eight bytes are enough: among the mails that one user gets in one second.
type ItemHash int64

// HashItem is the hash of an item id.
func HashItem(item string) ItemHash {
	sum := sha256.Sum256([]byte(item))
	return ItemHash(binary.BigEndian.Uint64(sum[:]))
}

// IsZero reports whether there is nothing to be looked up.
func (g Gap) IsZero() bool { return g.Since.IsZero() }

// Holds reports whether a mail that arrived at a time belongs to what has not been seen.
func (g Gap) Holds(item string, arrived time.Time) bool {
	return arrived.After(g.Since) || arrived.Equal(g.Since) && !slices.Contains(g.Seen, HashItem(item))
}

// String is how a Gap stands in the journal.
func (g Gap) String() string {
	words := []string{g.Since.UTC().Format(time.RFC3339Nano)}
	for _, hash := range g.Seen {
		words = append(words, strconv.FormatInt(int64(hash), 36))
	}
	return strings.Join(words, " ")
}

// ParseGap reads what String has written.
func ParseGap(text string) (Gap, error) {
	words := strings.Fields(text)
	if len(words) == 0 {
		return Gap{}, fmt.Errorf("a gap without a beginning")
	}
	since, err := time.Parse(time.RFC3339Nano, words[0])
	if err != nil {
		return Gap{}, fmt.Errorf("the beginning of a gap: %w", err)
	}
	gap := Gap{Since: since}
	for _, word := range words[1:] {
		hash, err := strconv.ParseInt(word, 36, 64)
		if err != nil {
			return Gap{}, fmt.Errorf("a mail before a gap: %w", err)
		}
		gap.Seen = append(gap.Seen, ItemHash(hash))
	}
	return gap, nil
}
