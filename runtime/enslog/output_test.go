package enslog_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/enslog"
	"github.com/ens-operator/ens-operator/runtime/requestid"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

const (
	activity = "9f08ed6d-0726-430c-8440-9c396443c7ca"
	user     = "1743604ea20cda831dc7aea285e7fdc011ca233caf0fa7d5d926916622dd182d"
)

// logged is what log writes in a format at level debug, in a context with activity and user.
func logged(t testing.TB, format config.LogFormat, log func(context.Context, *slog.Logger)) string {
	t.Helper()
	var text bytes.Buffer
	output := enslog.New(&text)
	output.Use(config.Logging{Format: format, Level: config.LogDebug})
	ctx := requestid.With(t.Context(), activity)
	requestid.Identify(ctx, user)
	log(ctx, slog.New(output))
	return text.String()
}

// layout is the original's (L-01), with date, machine and thread as they come.
var layout = regexp.MustCompile(`^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{3}\t[^\t\n]+\t([0-9a-f-]{36})\t\[0000000-0000000\]\t\(\d+\)\t(Debug|Info|Warn|Error)\t([^\t\n]+)\t([^\t\n]*)\n$`)

func TestALineHasTheOriginalsLayout(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		log  func(context.Context, *slog.Logger)
		want string // activity, level, logger and message
	}{
		"what the original logs stands in its words": {
			func(ctx context.Context, log *slog.Logger) { enslog.Subscribed.Log(ctx, log, "JwBt=") },
			activity + "|Info|MailNotificationService.BusinessImpl.ExchangeRetriesHandler.SubscribeForNotificationsAsync|" +
				"User Id:[" + user + "]  User [" + user + "] subscribed with subscriptionId [JwBt=]",
		},
		"a line of CNS names no user": {
			func(ctx context.Context, log *slog.Logger) { enslog.CNSAccepted.Log(ctx, log) },
			activity + "|Info|MailNotificationService.BusinessImpl.CNSHelper.ReadResponse|User Id:[no-user-id]    ResponseCode OK",
		},
		"loading the tokens leaves the user blank": {
			func(ctx context.Context, log *slog.Logger) { enslog.TokensNotLoaded.Log(ctx, log, "no file") },
			activity + "|Error|MailNotificationService.ProviderImpl.ApiTokensDataHandler.ApiTokensAsync|User Id:[ ] Error While loading the api tokens Exception [no file] StackTrace[]",
		},
		"a line outside a request has no user and an empty id": {
			func(_ context.Context, log *slog.Logger) { log.Warn("Something") },
			"00000000-0000-0000-0000-000000000000|Warn|EnsOperator.Runtime|User Id:[no-user-id]    Something",
		},
		"our own lines have their attributes": {
			func(ctx context.Context, log *slog.Logger) {
				log.ErrorContext(ctx, "Failed", "error", errors.New("no"), "none", error(nil), "n", 3, "took", time.Second, "key", secret.FromString("sesame"),
					slog.Group("g", "a", true))
			},
			activity + "|Error|EnsOperator.Runtime|User Id:[" + user + "]  Failed error=[no] n=[3] took=[1s] key=[[redacted]] g.a=[true]",
		},
		"attributes that were added for good stand before the others": {
			func(ctx context.Context, log *slog.Logger) {
				log.With("a", 1).WithGroup("g").With("b", 2).DebugContext(ctx, "x", "c", 3)
			},
			activity + "|Debug|EnsOperator.Runtime|User Id:[" + user + "]  x a=[1] g.b=[2] g.c=[3]",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			line := logged(t, config.LogENS2, test.log)
			match := layout.FindStringSubmatch(line)
			if match == nil {
				t.Fatalf("not the layout: %q", line)
			}
			want := strings.ReplaceAll(test.want, "[[redacted]]", "[(redacted)]")
			if got := strings.Join(match[1:], "|"); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestInJSONAnEventOfTheOriginalIsInOurWordsWithItsValues(t *testing.T) {
	t.Parallel()
	line := logged(t, config.LogJSON, func(ctx context.Context, log *slog.Logger) {
		enslog.BadgeUpdated.Log(ctx, log, "7", "6")
	})
	var fields map[string]any
	if err := json.Unmarshal([]byte(line), &fields); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	if at, _ := fields["time"].(string); at == "" {
		t.Errorf("there is no time: %s", line)
	}
	delete(fields, "time")
	want := map[string]any{
		"level": "DEBUG", "msg": "The mailbox has changed", "unread": "7", "previous": "6", "activityId": activity, "userId": user,
	}
	for key, value := range want {
		if fields[key] != value {
			t.Errorf("%s is %v, want %v", key, fields[key], value)
		}
	}
	if len(fields) != len(want) {
		t.Errorf("there is more than wanted: %s", line)
	}
}

func TestFormatAndLevelChangeWhileLogging(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	output := enslog.New(&text)
	log := slog.New(output).With("a", 1)
	takes := func() string {
		defer text.Reset()
		return text.String()
	}
	log.Debug("hidden")
	log.Info("shown")
	if got := takes(); !strings.HasPrefix(got, "{") || strings.Contains(got, "hidden") || !strings.Contains(got, `"a":1`) {
		t.Errorf("before anything is said, JSON from level info is wanted, got %s", got)
	}
	output.Use(config.Logging{Format: config.LogENS2, Level: config.LogDebug})
	log.Debug("shown")
	if got := takes(); !strings.Contains(got, "\tDebug\t") || !strings.Contains(got, "shown a=[1]") {
		t.Errorf("ens2 from level debug is wanted, got %s", got)
	}
	output.Use(config.Logging{Level: config.LogError})
	log.Warn("hidden")
	enslog.SubscribingFailed.Log(t.Context(), log, "hidden")
	log.Error("shown")
	if got := takes(); !strings.HasPrefix(got, "{") || strings.Contains(got, "hidden") {
		t.Errorf("JSON from level error is wanted, got %s", got)
	}
}

func TestTokensAreMasked(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ token, mask, key string }{
		"a long one shows its ends":           {"12341abcdefghijkfasdf", "12341*********fasdf", "12341:fasdf"},
		"of one of twenty, half is not shown": {"1234512345abcdeabcde", "12345*********abcde", "12345:abcde"},
		"of a shorter one, nothing is shown":  {"1234512345abcdeabcd", "*******************", "*****:*****"},
		"nor of an empty one":                 {"", "*******************", "*****:*****"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := enslog.Mask(test.token); got != test.mask {
				t.Errorf("got %s, want %s", got, test.mask)
			}
			if got := enslog.MaskKey(test.token); got != test.key {
				t.Errorf("got %s, want %s", got, test.key)
			}
		})
	}
}

// FuzzNobodyCanForgeALine: whatever stands in a message, a value, a key or an id, one record is one line of eight columns,
// in which a value ends where it seems to.
func FuzzNobodyCanForgeALine(f *testing.F) {
	for _, seed := range []string{
		"", "plain", "two\nlines", "a\tb\r\n2019/11/05 09:39:56.608\tA3", "]  User Id:[x", "\x1b[2K\x00\x7f", "\u2028\u0085\u202e", "\xff\xfe", "ü[é]漢", "{u}",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, hostile string) {
		for name, log := range map[string]func(context.Context, *slog.Logger){
			"an event of the original": func(ctx context.Context, log *slog.Logger) {
				enslog.Sending.Log(ctx, log, "1", hostile, hostile)
			},
			"a line of ours": func(ctx context.Context, log *slog.Logger) { log.InfoContext(ctx, hostile, hostile, hostile) },
			"the user and the id": func(ctx context.Context, log *slog.Logger) {
				ctx = requestid.With(ctx, hostile)
				requestid.Identify(ctx, hostile)
				enslog.StatusReceived.Log(ctx, log)
			},
		} {
			line := logged(t, config.LogENS2, log)
			if strings.Count(line, "\n") != 1 || !strings.HasSuffix(line, "\n") || strings.Count(line, "\t") != 7 {
				t.Errorf("%s: not one line of eight columns: %q", name, line)
			}
			unfit := func(r rune) bool { return !unicode.IsPrint(r) && r != '\t' && r != '\n' }
			if strings.ContainsFunc(line, unfit) {
				t.Errorf("%s: %q holds what is not printable", name, line)
			}
			if name != "a line of ours" && strings.Count(line, "[") != strings.Count(line, "]") {
				t.Errorf("%s: a value reaches beyond its brackets: %q", name, line)
			}
		}
	})
}
