package apns

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

const (
	// tokenWindow is how long a provider token serves. Apple wants it to be changed between 20 and 60 minutes after its issue.
	// Nearly 20 minutes are left for a replica that starts after the change and has to keep to the token before.
	tokenWindow = 40 * time.Minute
	// tokenMinUse is the shortest time between two changes of the token that Apple accepts.
	tokenMinUse = 20 * time.Minute
	// tokenMaxAge is how old a token may become when it is kept to respect tokenMinUse; Apple refuses it at an hour.
	tokenMaxAge = 58 * time.Minute
	// scalarSize is the length of each half of an ES256 signature (RFC 7518, section 3.4).
	scalarSize = 32
)

// tokens mints the provider token (a JWT, ES256) that authenticates a team.
//
// Apple counts the changes of the token per team, over all processes that push for it, and answers
// TooManyProviderTokenUpdates to more than one in 20 minutes. So the issue time is the start of the current window of
// 40 minutes of the wall clock, and the signature is deterministic (RFC 6979): all replicas send the very same bytes,
// and a restart does not change them.
type tokens struct {
	key    *ecdsa.PrivateKey
	keyID  string
	teamID string
	clock  clock.PassiveClock

	mu      sync.Mutex
	current minted
}

type minted struct {
	bearer string
	// issued is the iat claim; since is when this process began to use the token.
	issued, since time.Time
	// accepted says that Apple has taken it from this process.
	accepted bool
}

// bearer returns the token to use now.
func (t *tokens) bearer() (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.clock.Now()
	window := now.Truncate(tokenWindow)
	age := now.Sub(t.current.issued)
	// A token from the future means that the clock was set back: Apple would refuse it.
	stale := age < 0 || age >= tokenMaxAge || window.After(t.current.issued) && now.Sub(t.current.since) >= tokenMinUse
	if t.current.bearer == "" || stale {
		if err := t.mint(window, now); err != nil {
			return "", err
		}
	}
	return t.current.bearer, nil
}

// renew replaces the token that Apple has just refused by one that is issued now, unless it is younger than the
// shortest time between two changes. It reports whether there is another token to try.
func (t *tokens) renew(refused string) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current.bearer != refused {
		return true, nil
	}
	now := t.clock.Now()
	if now.Sub(t.current.issued) <= tokenMinUse {
		return false, nil
	}
	return true, t.mint(now.Truncate(time.Second), now)
}

// accepted takes note of the token that Apple has taken.
func (t *tokens) accepted(bearer string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current.bearer == bearer {
		t.current.accepted = true
	}
}

// stepBack replaces the window's token, which Apple has refused as too early a change, by that of the window before: the
// team's other replicas, or this one before a restart, have not used theirs for tokenMinUse yet. It reports whether there is
// another token to try.
func (t *tokens) stepBack(refused string) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current.bearer != refused {
		return true, nil
	}
	now := t.clock.Now()
	window := now.Truncate(tokenWindow)
	before := window.Add(-tokenWindow)
	if t.current.accepted || !t.current.issued.Equal(window) || now.Sub(before) >= tokenMaxAge {
		return false, nil
	}
	return true, t.mint(before, now)
}

// mint signs a new token. The caller holds mu.
func (t *tokens) mint(issued, now time.Time) error {
	bearer, err := t.sign(issued)
	if err != nil {
		return fmt.Errorf("sign the APNs provider token: %w", err)
	}
	t.current = minted{bearer: bearer, issued: issued, since: now}
	return nil
}

// sign makes the JWT. The header and claims are structs so that their order is fixed.
func (t *tokens) sign(issued time.Time) (string, error) {
	header, err := json.Marshal(struct {
		Algorithm string `json:"alg"`
		KeyID     string `json:"kid"`
	}{"ES256", t.keyID})
	if err != nil {
		return "", err
	}
	claims, err := json.Marshal(struct {
		Issuer   string `json:"iss"`
		IssuedAt int64  `json:"iat"`
	}{t.teamID, issued.Unix()})
	if err != nil {
		return "", err
	}
	signed := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(claims)
	digest := sha256.Sum256([]byte(signed))
	// Without a source of randomness the signature is deterministic.
	der, err := t.key.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		return "", err
	}
	var signature struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &signature); err != nil {
		return "", err
	}
	halves := make([]byte, 2*scalarSize)
	signature.R.FillBytes(halves[:scalarSize])
	signature.S.FillBytes(halves[scalarSize:])
	return signed + "." + base64.RawURLEncoding.EncodeToString(halves), nil
}
