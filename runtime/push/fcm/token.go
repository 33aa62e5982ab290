package fcm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v4"
	"k8s.io/utils/clock"

	"github.com/ens-operator/ens-operator/runtime/push"
)

const (
	// scope is what the access token is for, and nothing more.
	scope = "https://www.googleapis.com/auth/firebase.messaging"
	// grantType is RFC 7523's.
	grantType = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	// assertionLife is the longest that Google accepts.
	assertionLife = time.Hour
	// renewBefore is how long before its end a token is replaced, for clocks that differ and requests under way.
	renewBefore = 2 * time.Minute
	// fetchTimeout bounds the fetching of a token, which many pushes wait for together.
	fetchTimeout = 10 * time.Second
	// failureLife is how long a failure to get a token is the answer to further pushes, so that they do not all ask.
	failureLife = 2 * time.Second
	// longestCode is above the length of OAuth's and Google's error codes.
	longestCode = 64
)

// tokens gets access tokens for a service account and keeps the current one. The many pushes that need a token at the
// same time share one request, which none of them can call off for the others.
type tokens struct {
	account account
	url     string
	client  *http.Client
	clock   clock.PassiveClock
	// lifetime ends with the provider.
	lifetime context.Context

	mu      sync.Mutex
	current accessToken
	fetch   *fetch
}

type accessToken struct {
	bearer string
	until  time.Time
}

// fetch is a request for a token, under way or done.
type fetch struct {
	done   chan struct{}
	token  accessToken
	err    *tokenError
	failed time.Time
}

// tokenError is why there is no token.
type tokenError struct {
	outcome push.Outcome
	status  int
	// code is OAuth's, e.g. invalid_grant.
	code       string
	retryAfter time.Duration
	err        error
}

// bearer returns the current token, getting one first if need be.
func (t *tokens) bearer(ctx context.Context) (string, *tokenError) {
	t.mu.Lock()
	now := t.clock.Now()
	if t.current.bearer != "" && now.Before(t.current.until.Add(-renewBefore)) {
		defer t.mu.Unlock()
		return t.current.bearer, nil
	}
	work := t.fetch
	if work == nil || work.over() && now.Sub(work.failed) >= failureLife {
		work = &fetch{done: make(chan struct{})}
		t.fetch = work
		go t.run(work)
	}
	t.mu.Unlock()
	select {
	case <-work.done:
		return work.token.bearer, work.err
	case <-ctx.Done():
		return "", &tokenError{outcome: push.Retry, err: context.Cause(ctx)}
	}
}

func (f *fetch) over() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

// run gets a token and tells all who wait.
func (t *tokens) run(work *fetch) {
	ctx, cancel := context.WithTimeout(t.lifetime, fetchTimeout)
	defer cancel()
	work.token, work.err = t.request(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	if work.err == nil {
		t.current, t.fetch = work.token, nil
	} else {
		work.failed = t.clock.Now()
	}
	close(work.done)
}

// drop forgets a token that Google has refused.
func (t *tokens) drop(bearer string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current.bearer == bearer {
		t.current = accessToken{}
	}
}

// request asks Google for a token.
func (t *tokens) request(ctx context.Context) (accessToken, *tokenError) {
	assertion, err := t.assertion()
	if err != nil {
		return accessToken{}, &tokenError{outcome: push.Misconfigured, err: fmt.Errorf("sign the assertion of the FCM service account: %w", err)}
	}
	form := url.Values{"grant_type": {grantType}, "assertion": {assertion}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url, strings.NewReader(form.Encode()))
	if err != nil {
		return accessToken{}, &tokenError{outcome: push.Misconfigured, err: errors.New("the FCM tokenURL is not a URL")}
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := t.client.Do(request)
	if err != nil {
		return accessToken{}, &tokenError{outcome: push.Retry, err: fmt.Errorf("get an access token from Google: %w", bare(err))}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return accessToken{}, &tokenError{outcome: push.Retry, err: fmt.Errorf("read Google's access token: %w", bare(err))}
	}
	return t.read(response, body)
}

// assertion is the signed statement that stands for the service account (RFC 7523).
func (t *tokens) assertion() (string, error) {
	now := t.clock.Now()
	assertion := jwt.NewWithClaims(jwt.SigningMethodRS256, struct {
		Issuer   string `json:"iss"`
		Scope    string `json:"scope"`
		Audience string `json:"aud"`
		IssuedAt int64  `json:"iat"`
		Expires  int64  `json:"exp"`
		jwt.Claims
	}{Issuer: t.account.email, Scope: scope, Audience: googleTokenURL, IssuedAt: now.Unix(), Expires: now.Add(assertionLife).Unix()})
	if t.account.keyID != "" {
		assertion.Header["kid"] = t.account.keyID
	}
	return assertion.SignedString(t.account.key)
}

// read reads the token endpoint's answer.
func (t *tokens) read(response *http.Response, body []byte) (accessToken, *tokenError) {
	var content struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int64  `json:"expires_in"`
		Error       string `json:"error"`
	}
	valid := json.Unmarshal(body, &content) == nil
	if response.StatusCode == http.StatusOK && valid && content.AccessToken != "" {
		life := min(max(time.Duration(content.ExpiresIn)*time.Second, 0), assertionLife)
		return accessToken{bearer: content.AccessToken, until: t.clock.Now().Add(life)}, nil
	}
	failure := &tokenError{
		outcome: push.Retry, status: response.StatusCode, retryAfter: push.RetryAfter(response.Header, t.clock.Now()),
		err: errors.New("no access token came from Google for the service account"),
	}
	if isCode(content.Error) {
		failure.code = content.Error
	}
	if response.StatusCode >= http.StatusMultipleChoices && response.StatusCode < http.StatusInternalServerError &&
		response.StatusCode != http.StatusTooManyRequests && response.StatusCode != http.StatusRequestTimeout {
		failure.outcome = push.Misconfigured
		failure.err = errors.New("the service account was refused by Google: check that its key still exists and that this machine's clock is right")
	}
	return accessToken{}, failure
}

// isCode reports whether an error code looks like one; it goes into logs and metrics, so nothing else passes.
func isCode(code string) bool {
	return len(code) <= longestCode && strings.Trim(code, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
}

// bare strips the URL off an HTTP client's error.
func bare(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}
