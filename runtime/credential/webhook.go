package credential

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"regexp"
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
	filler secret.Value
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
	hook.filler = secret.FromString(filler)
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
func (w Webhook) context() string { return fmt.Sprintf("%d/%d", w.UserID, w.Generation) }

// FillerHash is SHA-256(f).
func (w Webhook) FillerHash() [sha256.Size]byte { return sha256.Sum256(w.filler.Reveal()) }

// mark is `m`: the webhook key's number and a truncated HMAC over tenant, id, g and SHA-256(f).
func (k *Keyring) mark(hook Webhook, number int) string {
	hash := hook.FillerHash()
	mac := hmac.New(sha256.New, k.webhooks[number].Reveal())
	mac.Write(k.additionalData("webhook", hook.context()))
	mac.Write(hash[:])
	return strconv.Itoa(number) + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:markSize])
}

var (
	identifier = regexp.MustCompile(`^[1-9][0-9]{0,17}$`)
	filler     = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
	markForm   = regexp.MustCompile(`^([1-9][0-9]{0,5})\.[A-Za-z0-9_-]{22}$`)
)

// ParseWebhook authenticates the query of a callback before anything else is done with it. Errors: ErrForged, and
// ErrUnknownKey if the mark names a key version that this process does not have.
func (k *Keyring) ParseWebhook(rawQuery string) (Webhook, error) {
	if len(rawQuery) > maxQueryLength {
		return Webhook{}, fmt.Errorf("%w: the query is too long", ErrForged)
	}
	values, err := url.ParseQuery(rawQuery)
	if err != nil {
		return Webhook{}, fmt.Errorf("%w: the query is malformed", ErrForged)
	}
	id, generation, mark := values.Get("id"), values.Get("g"), values.Get("m")
	hook := Webhook{filler: secret.FromString(values.Get("f"))}
	number := markForm.FindStringSubmatch(mark)
	if !identifier.MatchString(id) || !identifier.MatchString(generation) || !filler.Match(hook.filler.Reveal()) || number == nil {
		return Webhook{}, fmt.Errorf("%w: a parameter is missing or malformed", ErrForged)
	}
	hook.UserID, _ = strconv.ParseInt(id, 10, 64)             // at most 18 digits: fits
	hook.Generation, _ = strconv.ParseInt(generation, 10, 64) // likewise
	version, _ := strconv.Atoi(number[1])
	if _, ok := k.webhooks[version]; !ok {
		return Webhook{}, fmt.Errorf("webhook key %d: %w", version, ErrUnknownKey)
	}
	if !hmac.Equal([]byte(mark), []byte(k.mark(hook, version))) {
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
