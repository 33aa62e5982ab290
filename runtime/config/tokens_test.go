package config_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/config"
)

func hashOf(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

func TestAcceptFollowsTheRotation(t *testing.T) {
	t.Parallel()
	expiry := time.Date(2030, 6, 1, 12, 0, 0, 0, time.UTC)
	tokens, err := config.ParseAPITokens(hashOf("new") + "\n\n  " + hashOf("old") + "\t2030-06-01T14:00:00+02:00\n")
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		token string
		now   time.Time
		want  bool
	}{
		"the new token":                       {"new", expiry, true},
		"the new token in a hundred years":    {"new", expiry.AddDate(100, 0, 0), true},
		"the old token during the overlap":    {"old", expiry.Add(-time.Second), true},
		"the old token when the overlap ends": {"old", expiry, false},
		"no token":                            {"", expiry.Add(-time.Second), false},
		"another token":                       {"other", expiry.Add(-time.Second), false},
		"the hash of a token":                 {hashOf("new"), expiry.Add(-time.Second), false},
		"a token with a space":                {"new ", expiry.Add(-time.Second), false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, got := tokens.Accept(test.token, test.now); got != test.want {
				t.Errorf("accepted: %t, want %t", got, test.want)
			}
		})
	}
	if _, accepted := (config.APITokens{}).Accept("", expiry); accepted {
		t.Error("no tokens accept the empty one")
	}
}

func TestParseAPITokensRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		content string
		want    string
	}{
		"an empty file":                         {"", "no key"},
		"a file of empty lines":                 {"\n \n", "no key"},
		"a token in the place of its hash":      {"swordfish\n", "line 1"},
		"a token that is as long as a hash":     {strings.Repeat("swordfish", 8)[:64] + "\n", "line 1"},
		"a hash that is cut short":              {pin + "\n" + pin[:62] + "\n", "line 2"},
		"a hash that is cut short by a digit":   {pin[:63] + "\n", "line 1"},
		"a hash with a digit too many":          {pin + "0\n", "line 1"},
		"an expiry that is no time":             {pin + " swordfish\n", "expiry"},
		"an expiry without a zone":              {pin + " 2030-06-01T12:00:00\n", "expiry"},
		"the zero time, which would mean never": {pin + " 0001-01-01T00:00:00Z\n", "expiry"},
		"a year RFC 3339 does not have":         {pin + " 9999-12-31T23:59:59-23:59\n", "expiry"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tokens, err := config.ParseAPITokens(test.content)
			if err == nil {
				t.Fatalf("got %v, want an error", tokens)
			}
			if !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "swordfish") {
				t.Errorf("want an error that says %q and no token: %v", test.want, err)
			}
		})
	}
	if _, err := config.ParseAPITokens(""); !errors.Is(err, config.ErrNoKey) {
		t.Errorf("got %v, want ErrNoKey", err)
	}
}

func TestAPITokensAreWrittenAsTheyAreRead(t *testing.T) {
	t.Parallel()
	want := config.APITokens{
		{SHA256: sha256.Sum256([]byte("a"))},
		{SHA256: sha256.Sum256([]byte("b")), Expires: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)},
	}
	text := want.String()
	if expected := hashOf("a") + "\n" + hashOf("b") + " 2030-01-02T03:04:05Z\n"; text != expected {
		t.Errorf("got %q, want %q", text, expected)
	}
	if got, err := config.ParseAPITokens(text); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

func FuzzParseAPITokens(f *testing.F) {
	f.Add(pin + "\n" + pin + " 2030-06-01T14:00:00.5+02:00\n")
	f.Add(strings.ToUpper(pin) + " 0000-01-01T00:00:00+23:59")
	f.Add(pin + " 9999-12-31T23:59:59-23:59 more")
	f.Add(pin + " 9999-12-31T0:01:00-23:59") // the year of the text is not the year in UTC
	f.Fuzz(func(t *testing.T, content string) {
		tokens, err := config.ParseAPITokens(content)
		if err != nil {
			return
		}
		if len(tokens) == 0 {
			t.Fatal("accepted a file without a token")
		}
		again, err := config.ParseAPITokens(tokens.String())
		if err != nil || !reflect.DeepEqual(again, tokens) {
			t.Fatalf("written and read again it is %v, %v, want %v", again, err, tokens)
		}
	})
}
