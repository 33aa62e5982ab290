package push

import (
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/rivo/uniseg"
)

// MaxPayload is the largest payload, in bytes, that both APNs and FCM take.
const MaxPayload = 4096

// ErrTooLarge says that a notification exceeds the limit even without any text.
var ErrTooLarge = errors.New("the notification is too large even without its texts")

// cutMark stands where a text was cut.
const cutMark = "…"

// Fit returns n with its texts cut so that measure, the size in bytes of the encoded notification, is at most limit:
// the preview is cut first, then the subject, then the sender (protocol.md, "To the phone"). A text is cut between two
// characters as a reader sees them (grapheme clusters) and ends with an ellipsis then. Invalid UTF-8 is replaced by
// U+FFFD. Measure must not shrink when a text grows.
//
// The error is ErrTooLarge if nothing is left to cut, or measure's own.
func Fit(n Notification, limit int, measure func(Notification) (int, error)) (Notification, error) {
	texts := []*string{&n.Body, &n.Subtitle, &n.Title}
	for _, text := range texts {
		*text = strings.ToValidUTF8(*text, "\uFFFD")
	}
	fits := func() (bool, error) {
		size, err := measure(n)
		return size <= limit, err
	}
	if ok, err := fits(); ok || err != nil {
		return n, err
	}
	for _, text := range texts {
		if *text == "" {
			continue
		}
		if ok, err := shorten(text, limit, fits); ok || err != nil {
			return n, err
		}
	}
	return n, ErrTooLarge
}

// shorten sets text to its longest beginning with which all fits, or to nothing if none does, and reports whether all
// fits now.
func shorten(text *string, limit int, fits func() (bool, error)) (bool, error) {
	full := *text
	cuts := boundaries(full, limit)
	var failure error
	// The first cut that does not fit; the one before it is the longest that does.
	tooLong := sort.Search(len(cuts), func(i int) bool {
		*text = full[:cuts[i]] + cutMark
		ok, err := fits()
		failure = errors.Join(failure, err)
		return !ok
	})
	if failure != nil {
		return false, fmt.Errorf("measure the cut notification: %w", failure)
	}
	if tooLong == 0 {
		*text = ""
		return fits()
	}
	*text = full[:cuts[tooLong-1]] + cutMark
	return true, nil
}

// boundaries returns where text may be cut, from 0 on and below len(text). It looks no further than limit: an encoded
// text is never shorter than the text.
func boundaries(text string, limit int) []int {
	cuts := []int{0}
	state, at := -1, 0
	for rest := text; rest != ""; {
		var cluster string
		cluster, rest, _, state = uniseg.FirstGraphemeClusterInString(rest, state)
		at += len(cluster)
		if at > limit || rest == "" {
			break
		}
		cuts = append(cuts, at)
	}
	return cuts
}
