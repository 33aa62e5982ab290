package credential

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/ens-operator/ens-operator/runtime/secret"
)

// ListenerPath is the last part of the webhook URL's path (W-01).
const ListenerPath = "pushnotificationlistener"

// ErrForged says that a webhook's parameters were not made by this tenant, or were altered.
var ErrForged = errors.New("the webhook's parameters are not ours")

const (
	// markSize is the length of the truncated HMAC-SHA-256: 128 bits cannot be guessed online.
	markSize = 16
	// maxQueryLength is well above what we make (below 500 for a credential of ordinary length) and below Exchange's
	// limit of 2,082 for the whole URL.
	maxQueryLength = 2082
	// paddingBlock hides the length of a password inside f: lengths differ only in steps of this size.
	paddingBlock = 64
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
	// URL is the whole webhook URL. It is a secret: with the database's key it yields the credential.
	URL secret.Value
	// FillerHash is SHA-256(f), for the database.
	FillerHash [sha256.Size]byte
	// Key is the subscription key, sealed under the KEK, for the database.
	Key []byte
}

// SealIntoURL seals a credential under a fresh subscription key and builds the webhook URL below base.
func (k *Keyring) SealIntoURL(base string, userID, generation int64, c Credential) (Sealed, error) {
	key := newKey()
	defer clear(key)
	aead, err := newAEAD(key)
	if err != nil {
		return Sealed{}, err
	}
	plain := encode(c)
	defer clear(plain)
	hook := Webhook{UserID: userID, Generation: generation}
	context := hook.context()
	sealed := base64.RawURLEncoding.EncodeToString(aead.Seal(nil, nil, plain, k.additionalData("credential", context)))
	hook.filler = secret.FromString(sealed)

	address := strings.TrimSuffix(base, "/") + "/" + ListenerPath + fmt.Sprintf("?id=%d&g=%d&f=%s&m=%s",
		userID, generation, sealed, k.mark(hook, k.newestWebhook))
	return Sealed{
		URL:        secret.FromString(address),
		FillerHash: hook.FillerHash(),
		Key:        k.seal(key, purposeSubscriptionKey, context),
	}, nil
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

// OpenWebhook takes the credential out of a webhook with the sealed subscription key of the database. Every error is
// our own fault (ErrUnknownKey, ErrSealBroken), since ParseWebhook has found the webhook to be ours.
func (k *Keyring) OpenWebhook(hook Webhook, sealedKey []byte) (Credential, error) {
	key, err := k.open(sealedKey, purposeSubscriptionKey, hook.context())
	if err != nil {
		return Credential{}, fmt.Errorf("opening the subscription key: %w", err)
	}
	defer clear(key)
	aead, err := newAEAD(key)
	if err != nil {
		return Credential{}, err
	}
	sealed, err := base64.RawURLEncoding.DecodeString(hook.filler.RevealString())
	if err != nil {
		return Credential{}, fmt.Errorf("opening the credential: %w", ErrSealBroken)
	}
	plain, err := aead.Open(nil, nil, sealed, k.additionalData("credential", hook.context()))
	if err != nil {
		return Credential{}, fmt.Errorf("opening the credential: %w", ErrSealBroken)
	}
	defer clear(plain)
	return decode(plain)
}

// The form of a sealed credential: format version, authType, then each part with its length, then zeros.
const sealedFormat = 1

func encode(c Credential) []byte {
	plain := []byte{sealedFormat, byte(c.AuthType)}
	for _, part := range []secret.Value{c.Username, c.Password} {
		plain = binary.BigEndian.AppendUint16(plain, uint16(len(part.Reveal())))
		plain = append(plain, part.Reveal()...)
	}
	if rest := len(plain) % paddingBlock; rest != 0 {
		plain = append(plain, make([]byte, paddingBlock-rest)...)
	}
	return plain
}

func decode(plain []byte) (Credential, error) {
	damaged := fmt.Errorf("reading the credential: %w", ErrSealBroken)
	if len(plain) < 2 || plain[0] != sealedFormat {
		return Credential{}, damaged
	}
	c := Credential{AuthType: AuthType(plain[1])}
	rest := plain[2:]
	for _, part := range []*secret.Value{&c.Username, &c.Password} {
		if len(rest) < 2 {
			return Credential{}, damaged
		}
		length := int(binary.BigEndian.Uint16(rest))
		rest = rest[2:]
		if len(rest) < length {
			return Credential{}, damaged
		}
		*part = secret.New(append([]byte(nil), rest[:length]...))
		rest = rest[length:]
	}
	return c, nil
}
