package credential_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

const base = "https://ens.example.com/MailNotificationService/api/ens"

func basic(username, password string) credential.Credential {
	return credential.Credential{
		AuthType: credential.Basic, Username: secret.FromString(username), Password: secret.FromString(password),
	}
}

func seal(t testing.TB, ring *credential.Keyring, userID, generation int64, c credential.Credential) credential.Sealed {
	t.Helper()
	sealed, err := ring.SealIntoURL(base, userID, generation, c, secret.Value{})
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// query is what Exchange posts to.
func query(t testing.TB, sealed credential.Sealed) string {
	t.Helper()
	_, query, found := strings.Cut(sealed.URL.RevealString(), "?")
	if !found {
		t.Fatal("the webhook URL has no query")
	}
	return query
}

func TestWebhookBringsTheCredentialBack(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		base               string
		userID, generation int64
		c                  credential.Credential
	}{
		"an ordinary credential":          {base, 7, 8, basic("alice@example.com", "correct horse battery")},
		"a base that ends with a slash":   {base + "/", 7, 8, basic("alice", "s3cret")},
		"the shortest":                    {base, 1, 1, basic("a", "b")},
		"a credential that fills a block": {base, 1, 1, basic(strings.Repeat("u", 28), strings.Repeat("p", 30))},
		"the longest of a device":         {base, 1e18 - 1, 1e18 - 1, basic("u", strings.Repeat("p", 243))},
		"beyond ASCII":                    {base, 7, 8, basic("jürgen", "pä§:&=?#€😀")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ring := keyring(t, tenant, keys(1))
			sealed, err := ring.SealIntoURL(test.base, test.userID, test.generation, test.c, secret.Value{})
			if err != nil {
				t.Fatal(err)
			}
			address, err := url.Parse(sealed.URL.RevealString())
			if err != nil {
				t.Fatal(err)
			}
			if address.Path != "/MailNotificationService/api/ens/pushnotificationlistener" {
				t.Errorf("the URL's path is %s", address.Path)
			}
			// Exchange may write it into XML and back; no sign in it may need escaping there or in a URL.
			if strings.ContainsAny(address.RawQuery, "%+ <>\"'") {
				t.Error("the query holds signs that need escaping")
			}
			hook, err := ring.ParseWebhook(address.RawQuery)
			if err != nil {
				t.Fatal(err)
			}
			if hook.UserID != test.userID || hook.Generation != test.generation || hook.FillerHash() != sealed.FillerHash {
				t.Errorf("got %d/%d with hash %x", hook.UserID, hook.Generation, hook.FillerHash())
			}
			c, err := ring.OpenWebhook(hook, credential.Resting{Key: sealed.Key, Blob: sealed.Blob})
			if err != nil {
				t.Fatal(err)
			}
			if c.AuthType != test.c.AuthType || !c.Username.Equal(test.c.Username) || !c.Password.Equal(test.c.Password) {
				t.Errorf("got %q and %q", c.Username.Reveal(), c.Password.Reveal())
			}
		})
	}
}

func TestWebhookSurvivesTheRotationOfKeys(t *testing.T) {
	t.Parallel()
	sealed := seal(t, keyring(t, tenant, keys(1)), 7, 8, basic("alice", "s3cret"))
	foreignKEK, foreignWebhook, noKEK := keys(1), keys(1), keys(1, 2)
	foreignKEK.KEKs[1], foreignWebhook.Webhooks[1] = key(99), key(99)
	delete(noKEK.KEKs, 1)
	for name, test := range map[string]struct {
		ring        *credential.Keyring
		parse, open error
	}{
		"a newer version seals now":         {keyring(t, tenant, keys(1, 2)), nil, nil},
		"the version was dropped":           {keyring(t, tenant, keys(2)), credential.ErrUnknownKey, nil},
		"only the KEK was dropped":          {keyring(t, tenant, noKEK), nil, credential.ErrUnknownKey},
		"another KEK of the same number":    {keyring(t, tenant, foreignKEK), nil, credential.ErrSealBroken},
		"another webhook key of the number": {keyring(t, tenant, foreignWebhook), credential.ErrForged, nil},
		"another tenant with the same keys": {keyring(t, "ens_other", keys(1)), credential.ErrForged, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hook, err := test.ring.ParseWebhook(query(t, sealed))
			if !errors.Is(err, test.parse) {
				t.Fatalf("parsing: got error %v, want %v", err, test.parse)
			}
			if test.parse != nil {
				return
			}
			if _, err := test.ring.OpenWebhook(hook, credential.Resting{Key: sealed.Key, Blob: sealed.Blob}); !errors.Is(err, test.open) {
				t.Errorf("opening: got error %v, want %v", err, test.open)
			}
		})
	}
	if newest := query(t, seal(t, keyring(t, tenant, keys(1, 9, 2)), 7, 8, basic("a", "b"))); !strings.Contains(newest, "&m=9.") {
		t.Error("the newest webhook key does not sign")
	}
}

func TestWebhookOpensWithItsOwnSubscriptionKeyOnly(t *testing.T) {
	t.Parallel()
	ring := keyring(t, tenant, keys(1))
	own := seal(t, ring, 7, 8, basic("alice", "s3cret"))
	hook, err := ring.ParseWebhook(query(t, own))
	if err != nil {
		t.Fatal(err)
	}
	again := seal(t, ring, 7, 8, basic("alice", "s3cret"))
	if bytes.Equal(own.Key, again.Key) || own.URL.Equal(again.URL) {
		t.Error("two seals of one attempt share a key")
	}
	for name, key := range map[string][]byte{
		"of the user's next generation":               seal(t, ring, 7, 9, basic("alice", "s3cret")).Key,
		"of another user":                             seal(t, ring, 6, 8, basic("alice", "s3cret")).Key,
		"of another seal of the same user and number": again.Key,
		"cut off": own.Key[:len(own.Key)-1],
		"none":    nil,
	} {
		if c, err := ring.OpenWebhook(hook, credential.Resting{Key: key}); !errors.Is(err, credential.ErrSealBroken) || !c.Password.IsZero() {
			t.Errorf("with the key %s: got error %v, want %v", name, err, credential.ErrSealBroken)
		}
	}
}

func TestWebhookURLStaysShort(t *testing.T) {
	t.Parallel()
	ring := keyring(t, tenant, keys(999_999))
	longBase := "https://" + strings.Repeat("a", 150-len("https://"))
	for name, test := range map[string]struct {
		username, password string
		below              int
	}{
		"an ordinary credential":        {"ACME\\a.rather.long.name@corp.example.com", "a passphrase of forty characters, or so", 500},
		"the longest that fits a block": {"u", strings.Repeat("p", 243), 500},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sealed, err := ring.SealIntoURL(longBase, 1e18-1, 1e18-1, basic(test.username, test.password), secret.Value{})
			if err != nil {
				t.Fatal(err)
			}
			if length := len(sealed.URL.Reveal()); length >= test.below {
				t.Errorf("the URL has %d characters, want fewer than %d", length, test.below)
			}
			if _, err := ring.ParseWebhook(query(t, sealed)); err != nil {
				t.Errorf("it is not taken back: %v", err)
			}
		})
	}
}

func TestWebhookURLHidesTheLengthOfThePassword(t *testing.T) {
	t.Parallel()
	ring := keyring(t, tenant, keys(1))
	want := len(seal(t, ring, 7, 8, basic("alice", "123456")).URL.Reveal())
	for length := 4; length <= 16; length++ {
		if got := len(seal(t, ring, 7, 8, basic("alice", strings.Repeat("p", length))).URL.Reveal()); got != want {
			t.Errorf("a password of %d characters makes a URL of %d characters, one of 6 makes %d", length, got, want)
		}
	}
}

func TestEveryAlteredCharacterIsFoundOut(t *testing.T) {
	t.Parallel()
	ring := keyring(t, tenant, keys(1))
	original := query(t, seal(t, ring, 12, 34, basic("alice", "s3cret")))
	for i := range original {
		for sign := range 256 {
			if byte(sign) == original[i] {
				continue
			}
			altered := []byte(original)
			altered[i] = byte(sign)
			if _, err := ring.ParseWebhook(string(altered)); !errors.Is(err, credential.ErrForged) && !errors.Is(err, credential.ErrUnknownKey) {
				t.Fatalf("with %q instead of %q at %d: got error %v", byte(sign), original[i], i, err)
			}
		}
		if _, err := ring.ParseWebhook(original[:i]); !errors.Is(err, credential.ErrForged) {
			t.Errorf("cut off at %d: got error %v", i, err)
		}
	}
}

func TestPartsOfTwoWebhooksDoNotMix(t *testing.T) {
	t.Parallel()
	ring := keyring(t, tenant, keys(1))
	parameters := func(userID, generation int64, password string) url.Values {
		values, err := url.ParseQuery(query(t, seal(t, ring, userID, generation, basic("alice", password))))
		if err != nil {
			t.Fatal(err)
		}
		return values
	}
	one, two := parameters(12, 34, "s3cret"), parameters(56, 78, "other")
	for mask := 1; mask < 15; mask++ { // every mixture of the four, but not one of the two as they are
		mixed := url.Values{}
		for i, name := range []string{"id", "g", "f", "m"} {
			mixed[name] = one[name]
			if mask&(1<<i) != 0 {
				mixed[name] = two[name]
			}
		}
		if _, err := ring.ParseWebhook(mixed.Encode()); !errors.Is(err, credential.ErrForged) {
			t.Errorf("mixture %04b: got error %v, want %v", mask, err, credential.ErrForged)
		}
	}
	// 1|23/4 and 12|3/4 must not sign the same text.
	shifted := parameters(1, 234, "s3cret")
	shifted.Set("id", "12")
	shifted.Set("g", "34")
	if _, err := ring.ParseWebhook(shifted.Encode()); !errors.Is(err, credential.ErrForged) {
		t.Errorf("digits moved from g to id: got error %v", err)
	}
}

func TestOddQueriesAreForged(t *testing.T) {
	t.Parallel()
	ring := keyring(t, tenant, keys(1))
	good := query(t, seal(t, ring, 12, 34, basic("alice", "s3cret")))
	without := func(name string) string {
		values, err := url.ParseQuery(good)
		if err != nil {
			t.Fatal(err)
		}
		values.Del(name)
		return values.Encode()
	}
	for name, query := range map[string]string{
		"empty":                         "",
		"no id":                         without("id"),
		"no generation":                 without("g"),
		"no filler":                     without("f"),
		"no mark":                       without("m"),
		"another id in front":           "id=13&" + good,
		"an empty id in front":          "id=&" + good,
		"another generation in front":   "g=35&" + good,
		"another filler in front":       "f=AAAA&" + good,
		"another mark in front":         "m=1.AAAAAAAAAAAAAAAAAAAAAA&" + good,
		"a zero in front of the id":     strings.Replace(good, "id=12", "id=012", 1),
		"a sign in front of the id":     strings.Replace(good, "id=12", "id=%2B12", 1),
		"a negative id":                 strings.Replace(good, "id=12", "id=-12", 1),
		"an id beyond 64 bits":          strings.Replace(good, "id=12", "id="+strings.Repeat("9", 30), 1),
		"an id as large as an int64":    strings.Replace(good, "id=12", fmt.Sprintf("id=%d", math.MaxInt64), 1),
		"a NUL behind the id":           strings.Replace(good, "id=12", "id=12%00", 1),
		"a line end behind the id":      strings.Replace(good, "id=12", "id=12%0A", 1),
		"a NUL behind the filler":       strings.Replace(good, "&m=", "%00&m=", 1),
		"padding behind the filler":     strings.Replace(good, "&m=", "=&m=", 1),
		"a zero in front of the number": strings.Replace(good, "&m=1.", "&m=01.", 1),
		"a mark of a number too large":  strings.Replace(good, "&m=1.", "&m=1000000.", 1),
		"an unfinished escape":          good + "&x=%",
		"semicolons":                    strings.ReplaceAll(good, "&", ";"),
		"letters in another case":       strings.ToUpper(good),
		"longer than Exchange allows":   good + "&x=" + strings.Repeat("x", 2082),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hook, err := ring.ParseWebhook(query)
			if !errors.Is(err, credential.ErrForged) {
				t.Errorf("got error %v, want %v", err, credential.ErrForged)
			}
			if hook != (credential.Webhook{}) {
				t.Error("a webhook came with the error")
			}
			if err != nil && query != "" && strings.Contains(err.Error(), query) {
				t.Error("the error quotes the query")
			}
		})
	}
	if _, err := ring.ParseWebhook(strings.Replace(good, "&m=1.", "&m=2.", 1)); !errors.Is(err, credential.ErrUnknownKey) {
		t.Errorf("a mark of a version we lack: got error %v, want %v", err, credential.ErrUnknownKey)
	}
}

// What a proxy on the way may do to a query changes nothing of what it says.
func TestHarmlessQueriesMeanTheSame(t *testing.T) {
	t.Parallel()
	ring := keyring(t, tenant, keys(1))
	sealed := seal(t, ring, 12, 34, basic("alice", "s3cret"))
	good := query(t, sealed)
	parts := strings.Split(good, "&")
	slices.Reverse(parts)
	for name, query := range map[string]string{
		"another order":            strings.Join(parts, "&"),
		"a parameter of a proxy's": good + "&via=proxy",
		"an escaped digit":         strings.Replace(good, "id=12", "id=%312", 1),
		"a copy of id behind":      good + "&id=13",
		"an empty parameter":       good + "&",
	} {
		hook, err := ring.ParseWebhook(query)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		c, err := ring.OpenWebhook(hook, credential.Resting{Key: sealed.Key, Blob: sealed.Blob})
		if err != nil || hook.UserID != 12 || hook.Generation != 34 || c.Password.RevealString() != "s3cret" {
			t.Errorf("%s: got %d/%d, %v", name, hook.UserID, hook.Generation, err)
		}
	}
}

func TestNothingPrintsASecret(t *testing.T) {
	t.Parallel()
	const username, password = "alice@example.com", "correct horse"
	k := keys(1)
	k.KEKs[1], k.Webhooks[1] = secret.FromString("a KEK of 32 bytes, as it must be"), secret.FromString("a webhook key of 32 bytes, too..")
	ring := keyring(t, tenant, k)
	c := basic(username, password)
	sealed := seal(t, ring, 7, 8, c)
	hook, err := ring.ParseWebhook(query(t, sealed))
	if err != nil {
		t.Fatal(err)
	}
	filler := strings.TrimPrefix(strings.Split(query(t, sealed), "&")[2], "f=")
	secrets := []string{username, password, string(k.KEKs[1].Reveal()), string(k.Webhooks[1].Reveal()), filler}

	for name, value := range map[string]any{
		"Credential": c, "*Credential": &c, "Sealed": sealed, "*Sealed": &sealed, "Webhook": hook, "*Webhook": &hook,
		"Keyring": ring, "a struct around": struct {
			c credential.Credential
			w *credential.Webhook
		}{c, &hook},
	} {
		encoded, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "value", value)
		printed := []string{string(encoded), log.String()}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			printed = append(printed, fmt.Sprintf(verb, value))
		}
		for _, text := range printed {
			for _, hidden := range secrets {
				for _, form := range []string{"%s", "%x", "%X", "%d", "%#v"} {
					needle := strings.Trim(fmt.Sprintf(form, []byte(hidden)), "[]")
					if strings.Contains(text, needle) {
						t.Errorf("%s prints %q as %s", name, hidden, text)
					}
				}
			}
		}
	}
}

func TestWipeReachesAllCopiesButNotClones(t *testing.T) {
	t.Parallel()
	c := basic("alice", "s3cret")
	held, clone, same := c.Password.Reveal(), c.Clone(), c
	c.Wipe()
	if !same.Username.IsZero() || !same.Password.IsZero() || !bytes.Equal(held, make([]byte, len(held))) {
		t.Error("the plaintext is still there after Wipe")
	}
	if clone.Username.RevealString() != "alice" || clone.Password.RevealString() != "s3cret" {
		t.Error("Wipe took the clone's bytes too")
	}
	new(credential.Credential).Wipe()
}

func FuzzParseWebhook(f *testing.F) {
	ring := keyring(f, tenant, keys(1, 2))
	// The fuzzer's processes seal alike but for the nonce: each one's queries are good in the others.
	good := query(f, seal(f, ring, 12, 34, basic("alice", "s3cret")))
	f.Add(good)
	f.Add("id=1&g=1&f=A&m=1.AAAAAAAAAAAAAAAAAAAAAA")
	f.Add("id=%00&g=%zz&&&;=")
	f.Add(strings.Replace(good, "id=12", "id=%31%32&id=13", 1))
	f.Fuzz(func(t *testing.T, query string) {
		hook, err := ring.ParseWebhook(query)
		switch {
		case err != nil:
			if !errors.Is(err, credential.ErrForged) && !errors.Is(err, credential.ErrUnknownKey) {
				t.Errorf("got error %v", err)
			}
		case hook.UserID != 12 || hook.Generation != 34:
			t.Errorf("%q was taken for %d/%d", query, hook.UserID, hook.Generation)
		}
	})
}
