package traffic_test

import (
	"testing"

	"github.com/ens-operator/ens-operator/hack/e2e/traffic"
)

func TestACountIsAnErrorIfSomethingMustNotBe(t *testing.T) {
	t.Parallel()
	good := traffic.Count{Mails: 10, Notifications: 12, Posts: 11}
	for name, test := range map[string]struct {
		change func(*traffic.Count)
		wrong  bool
	}{
		"everything was told once":                   {func(*traffic.Count) {}, false},
		"posts failed and were repeated":             {func(c *traffic.Count) { c.FailedPosts = 3 }, false},
		"mails of a burst were told as a number":     {func(c *traffic.Count) { c.Summed = 3 }, false},
		"a notification was lost":                    {func(c *traffic.Count) { c.Lost = 1 }, true},
		"a notification was shown twice":             {func(c *traffic.Count) { c.Duplicates = 1 }, true},
		"Exchange gave up":                           {func(c *traffic.Count) { c.GivenUp = 1 }, true},
		"calls through the gateway were refused":     {func(c *traffic.Count) { c.Gateway, c.Calls, c.Refused = 4, 6, 2 }, false},
		"all calls through the gateway were refused": {func(c *traffic.Count) { c.Gateway, c.Calls, c.Refused = 4, 2, 2 }, true},
		"no call came through the gateway":           {func(c *traffic.Count) { c.Gateway = 4 }, true},
		"there was no mail, so that none was lost":   {func(c *traffic.Count) { c.Mails = 0 }, true},
		"there was no post, so that none has failed": {func(c *traffic.Count) { c.Posts = 0 }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			count := good
			test.change(&count)
			if err := count.Err(); (err != nil) != test.wrong {
				t.Errorf("got %v", err)
			}
		})
	}
}
