package push

import (
	"net/http"
	"strconv"
	"time"
)

// maxRetryAfter bounds what a provider can ask for.
const maxRetryAfter = 24 * time.Hour

// RetryAfter reads how long the header of that name asks to wait, in either of its forms (RFC 9110, section 10.2.3); 0 if
// it does not ask.
func RetryAfter(header http.Header, now time.Time) time.Duration {
	text := header.Get("Retry-After")
	if text == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}
