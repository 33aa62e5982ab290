package credential

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

// ListenerPath is the last part of the webhook URL's path (W-01).
const ListenerPath = "pushnotificationlistener"

// ErrForged says that a webhook's parameters were not made by this tenant, or were altered.
var ErrForged = errors.New("the webhook's parameters are not ours")

const (
	// markSize is the length of the truncated HMAC-SHA-256: 128 bits cannot be guessed online.
	markSize = 16
	// maxQueryLength is well above what we make and below Exchange's limit of 2,082 for the whole URL.
	maxQueryLength = 2082
)

// Webhook identifies a callback: the parameters of the URL that was given to Exchange (W-01 to W-03, protocol.md "The
// webhook URL and the credentials").
type Webhook struct {
	// UserID and Generation are `id` and `g`.
	UserID, Generation int64
	// filler is `f`: the sealed credential. It is secret like the query it came in.
	filler     secret.Value
	fillerHash [sha256.Size]byte
}

// Sealed is a credential made ready for a webhook URL.
type Sealed struct {
	// URL is the whole webhook URL. It is a secret: with what the database keeps it yields the credential.
	URL secret.Value
	// FillerHash is SHA-256(f), for the database.
	FillerHash [sha256.Size]byte
	// Key is the subscription key, sealed under the KEK, for the database.
	Key []byte
	// Blob is the credential, sealed under a data key of which only the URL knows, for the database; nil if the
	// credential itself is in the URL.
	Blob []byte
	// WebhookKey is the number of the webhook key that signed the URL.
	WebhookKey int
}

// maxInURL is the longest encoded credential that is put into the URL itself, in bytes: with a base of 150 characters
// the URL stays below 500 (protocol.md, The webhook URL).
const maxInURL = 128

// SealIntoURL seals a credential under a fresh subscription key and builds the webhook URL below base. A credential
// that is long, or came with a data key because it will be replaced, rests sealed in the database instead, and the URL
// holds its key. Error: ErrUndecided.
func (k *Keyring) SealIntoURL(base string, userID, generation int64, c Credential, dataKey secret.Value) (Sealed, error) {
	webhookKey, err := k.sealingWebhook()
	if err != nil {
		return Sealed{}, err
	}
	hook := Webhook{UserID: userID, Generation: generation}
	plain := encode(c)
	defer func() { clear(plain) }()
	var blob []byte
	if len(plain) > maxInURL || !dataKey.IsZero() {
		key := slices.Clone(dataKey.Reveal())
		if dataKey.IsZero() {
			key = newKey()
		}
		if blob, err = k.sealBlob(key, hook, plain); err != nil {
			return Sealed{}, err
		}
		clear(plain)
		plain = append([]byte{formDataKey}, key...)
		clear(key)
	}
	key := newKey()
	defer clear(key)
	sealedKey, err := k.seal(key, purposeSubscriptionKey, hook.context())
	if err != nil {
		return Sealed{}, err
	}
	aead, err := newAEAD(key)
	if err != nil {
		return Sealed{}, err
	}
	filler := base64.RawURLEncoding.EncodeToString(aead.Seal(nil, nil, plain, k.additionalData("credential", hook.context())))
	hook = hook.carrying(filler)
	address := strings.TrimSuffix(base, "/") + "/" + ListenerPath + fmt.Sprintf("?id=%d&g=%d&f=%s&m=%s",
		userID, generation, filler, k.mark(hook, webhookKey))
	return Sealed{
		URL: secret.FromString(address), FillerHash: hook.FillerHash(), Key: sealedKey, Blob: blob, WebhookKey: webhookKey,
	}, nil
}

const purposeBlob = "credential blob"

func (k *Keyring) sealBlob(dataKey []byte, hook Webhook, plain []byte) ([]byte, error) {
	aead, err := newAEAD(dataKey)
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, nil, plain, k.additionalData(purposeBlob, hook.context())), nil
}

// context names one subscription attempt.
func (w Webhook) context() string {
	return strconv.FormatInt(w.UserID, 10) + "/" + strconv.FormatInt(w.Generation, 10)
}

// carrying is the webhook with its `f`.
func (w Webhook) carrying(filler string) Webhook {
	w.filler = secret.FromString(filler)
	w.fillerHash = sha256.Sum256(w.filler.Reveal())
	return w
}

// FillerHash is SHA-256(f).
func (w Webhook) FillerHash() [sha256.Size]byte { return w.fillerHash }

// mark is `m`: the webhook key's number and a truncated HMAC over tenant, id, g and SHA-256(f).
func (k *Keyring) mark(hook Webhook, number int) string {
	mac := hmac.New(sha256.New, k.webhooks[number].Reveal())
	mac.Write(k.additionalData("webhook", hook.context()))
	mac.Write(hook.fillerHash[:])
	return strconv.Itoa(number) + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:markSize])
}

// parameters are those of a webhook's query, each by its first occurrence, unescaped.
type parameters struct{ id, generation, filler, mark string }

// parseQuery reads them as url.ParseQuery does, whose map of lists costs more than all the rest of a webhook.
func parseQuery(rawQuery string) (p parameters, err error) {
	seen := map[string]*string{"id": &p.id, "g": &p.generation, "f": &p.filler, "m": &p.mark}
	for part := range strings.SplitSeq(rawQuery, "&") {
		if strings.Contains(part, ";") {
			return parameters{}, errMalformedQuery
		}
		name, value, _ := strings.Cut(part, "=")
		if name, err = url.QueryUnescape(name); err != nil {
			return parameters{}, errMalformedQuery
		}
		if value, err = url.QueryUnescape(value); err != nil {
			return parameters{}, errMalformedQuery
		}
		if into := seen[name]; into != nil {
			*into = value
			delete(seen, name) // an empty one counts, too
		}
	}
	return p, nil
}

var errMalformedQuery = fmt.Errorf("%w: the query is malformed", ErrForged)

const (
	// maxIdentifier bounds the digits of an id or generation: so many fit an int64.
	maxIdentifier = 18
	// maxKeyNumber bounds those of a webhook key's number.
	maxKeyNumber = 6
)

// number reads a positive decimal number of at most so many digits, without a zero in front.
func number(text string, digits int) (int64, bool) {
	if len(text) == 0 || len(text) > digits || text[0] == '0' {
		return 0, false
	}
	var n int64
	for _, c := range []byte(text) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// isBase64URL reports whether text is made of the characters of base64url without padding.
func isBase64URL(text string) bool {
	for _, c := range []byte(text) {
		if !inBase64URL[c] {
			return false
		}
	}
	return len(text) > 0
}

var inBase64URL = func() (in [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") {
		in[c] = true
	}
	return in
}()

// ParseWebhook authenticates the query of a callback before anything else is done with it. Errors: ErrForged, and
// ErrUnknownKey if the mark names a key version that this process does not have.
func (k *Keyring) ParseWebhook(rawQuery string) (Webhook, error) {
	if len(rawQuery) > maxQueryLength {
		return Webhook{}, fmt.Errorf("%w: the query is too long", ErrForged)
	}
	given, err := parseQuery(rawQuery)
	if err != nil {
		return Webhook{}, err
	}
	key, tag, _ := strings.Cut(given.mark, ".")
	userID, idOK := number(given.id, maxIdentifier)
	generation, generationOK := number(given.generation, maxIdentifier)
	version, versionOK := number(key, maxKeyNumber)
	tagOK := len(tag) == base64.RawURLEncoding.EncodedLen(markSize) && isBase64URL(tag)
	if !idOK || !generationOK || !versionOK || !tagOK || !isBase64URL(given.filler) {
		return Webhook{}, fmt.Errorf("%w: a parameter is missing or malformed", ErrForged)
	}
	hook := Webhook{UserID: userID, Generation: generation}.carrying(given.filler)
	if _, ok := k.webhooks[int(version)]; !ok {
		return Webhook{}, fmt.Errorf("webhook key %d: %w", version, ErrUnknownKey)
	}
	if !hmac.Equal([]byte(given.mark), []byte(k.mark(hook, int(version)))) {
		return Webhook{}, ErrForged
	}
	return hook, nil
}

// Resting is what the database keeps of a subscription's credential.
type Resting struct {
	// Key and Blob are as of Sealed.
	Key, Blob []byte
}

// OpenWebhook takes the credential out of a webhook and what the database keeps of it. Every error is our own fault
// (ErrUnknownKey, ErrSealBroken), since ParseWebhook has found the webhook to be ours.
func (k *Keyring) OpenWebhook(hook Webhook, resting Resting) (Credential, error) {
	plain, err := k.openFiller(hook, resting.Key)
	if err != nil {
		return Credential{}, err
	}
	defer clear(plain)
	if plain[0] != formDataKey {
		return decode(plain)
	}
	encoded, err := openWith(plain[1:], resting.Blob, k.additionalData(purposeBlob, hook.context()))
	if err != nil {
		return Credential{}, fmt.Errorf("opening the credential in the database: %w", err)
	}
	defer clear(encoded)
	return decode(encoded)
}

// OpenUpdate takes a credential that the device sent after the subscription was made (RSASplit) out of its blob, which
// is base64. It returns the credential as it is to rest from now on, too. Error: ErrUndecryptable if the device made a
// mistake, or somebody else sent it; else as of OpenWebhook.
func (k *Keyring) OpenUpdate(hook Webhook, sealedKey []byte, authType AuthType, payload string, binding Binding) (Credential, []byte, error) {
	plain, err := k.openFiller(hook, sealedKey)
	if err != nil {
		return Credential{}, nil, err
	}
	defer clear(plain)
	if plain[0] != formDataKey {
		return Credential{}, nil, ErrUndecryptable
	}
	opened, err := openBlob(secret.New(plain[1:]), payload, binding)
	if err != nil {
		return Credential{}, nil, err
	}
	defer clear(opened)
	c, err := parse(opened, authType)
	if err != nil {
		return Credential{}, nil, err
	}
	encoded := encode(c)
	defer clear(encoded)
	blob, err := k.sealBlob(plain[1:], hook, encoded)
	if err != nil {
		c.Wipe()
		return Credential{}, nil, err
	}
	return c, blob, nil
}

// openFiller opens `f`. What it returns is not empty.
func (k *Keyring) openFiller(hook Webhook, sealedKey []byte) ([]byte, error) {
	key, err := k.open(sealedKey, purposeSubscriptionKey, hook.context())
	if err != nil {
		return nil, fmt.Errorf("opening the subscription key: %w", err)
	}
	defer clear(key)
	sealed, err := base64.RawURLEncoding.DecodeString(hook.filler.RevealString())
	if err != nil {
		return nil, fmt.Errorf("opening the webhook's credential: %w", ErrSealBroken)
	}
	plain, err := openWith(key, sealed, k.additionalData("credential", hook.context()))
	if err != nil {
		return nil, fmt.Errorf("opening the webhook's credential: %w", err)
	}
	return plain, nil
}

// openWith opens what was sealed under a key that rests somewhere else. What it returns is not empty.
func openWith(key, sealed, additionalData []byte) ([]byte, error) {
	if len(key) != config.KeySize {
		return nil, ErrSealBroken
	}
	aead, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, nil, sealed, additionalData)
	if err != nil || len(plain) == 0 {
		return nil, ErrSealBroken
	}
	return plain, nil
}
