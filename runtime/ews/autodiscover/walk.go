package autodiscover

import (
	"context"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/ens-operator/ens-operator/runtime/credential"
)

// walk is one Find on its way through the steps. Parts of it that need no credential are walked by a child, whose result
// others may share.
type walk struct {
	d          *Discoverer
	user       credential.Credential
	activityID string
	// fresh says that the answers about other users are not good enough.
	fresh bool

	hopsLeft int
	// hopsUsed is, of a child that is done, what it took of its parent's.
	hopsUsed int
	// asked holds what was asked about the current e-mail address, form and URL.
	asked map[string]bool
	// ended says that nothing more may be asked, because there were too many hops or a circle of e-mail addresses.
	ended    bool
	failures []failure
	// foreign are scheme and host of the EWS addresses that are none of the tenant's.
	foreign []string
	// refused are the hosts that refused the credential; accepted says that one took it.
	refused  map[string]bool
	accepted bool
}

// verdict is what a step led to. The zero value is nothing.
type verdict struct {
	endpoint string
	// anonymous says that the endpoint was told without a credential.
	anonymous bool
	// redirect is the e-mail address to ask about instead.
	redirect *mailAddress
}

func (d *Discoverer) newWalk(user credential.Credential, activityID string, fresh bool) *walk {
	return &walk{
		d: d, user: user, activityID: activityID, fresh: fresh,
		hopsLeft: maxHops, asked: make(map[string]bool), refused: make(map[string]bool),
	}
}

// find walks the steps for asked, and again for each address that a server redirects to.
func (w *walk) find(ctx context.Context, asked mailAddress) (endpoint string, found bool) {
	seen := map[string]bool{strings.ToLower(asked.text.RevealString()): true}
	for {
		if endpoint, ok := w.d.found.get(asked.domain); ok && !w.fresh {
			return endpoint, true
		}
		v := w.steps(ctx, asked)
		if v.endpoint != "" {
			w.remember(asked.domain, v)
			return v.endpoint, true
		}
		if v.redirect == nil {
			return "", false
		}
		asked = *v.redirect
		key := strings.ToLower(asked.text.RevealString())
		if seen[key] {
			w.failures = append(w.failures, failure{place: wholeSearch, err: errAddressCircle})
			return "", false
		}
		seen[key] = true
		clear(w.asked)
	}
}

// remember keeps an endpoint for the others of the domain, see Find.
func (w *walk) remember(domain string, v verdict) {
	if _, known := w.d.found.get(domain); known && !v.anonymous {
		return
	}
	w.d.found.put(domain, v.endpoint, w.d.options.Config.CacheTime())
}

// steps walks all steps for one e-mail address.
func (w *walk) steps(ctx context.Context, asked mailAddress) verdict {
	for _, s := range steps {
		v := w.step(ctx, s, asked)
		if v.endpoint != "" || v.redirect != nil {
			return v
		}
		if w.ended || ctx.Err() != nil {
			break
		}
	}
	return verdict{}
}

func (w *walk) step(ctx context.Context, s step, asked mailAddress) verdict {
	if !s.form.authenticated {
		return w.lookUp(ctx, s, asked)
	}
	start := s.start(asked.domain)
	targets := []*url.URL{start}
	if s.locate != nil {
		targets = w.locate(ctx, s, start)
	}
	for _, target := range targets {
		if v := w.follow(ctx, s.form, target, asked); v.endpoint != "" || v.redirect != nil {
			return v
		}
		if w.ended {
			break
		}
	}
	return verdict{}
}

// lookUp asks a form that takes no credential. Others who ask at the same time share an endpoint that was found, and a
// host that cannot be reached; any other answer may be due to the e-mail address.
func (w *walk) lookUp(ctx context.Context, s step, asked mailAddress) verdict {
	ask := func(child *walk) (verdict, bool) {
		target := s.start(asked.domain)
		target.RawQuery = s.form.query(asked.text.RevealString())
		v := child.follow(ctx, s.form, target, asked)
		return v, v.endpoint != "" || child.allUnreachable()
	}
	return share(ctx, w, s.address+" "+asked.domain, ask)
}

// locate runs a step's locate. Its requests are about the domain alone, so that any outcome may be shared.
func (w *walk) locate(ctx context.Context, s step, start *url.URL) []*url.URL {
	return share(ctx, w, s.address+" "+start.Hostname(), func(child *walk) ([]*url.URL, bool) {
		return s.locate(child, ctx, start), true
	})
}

// shared is what a child of a walk brought back.
type shared[T any] struct {
	value T
	child *walk
	// forAll says that those who asked something else may take it too.
	forAll bool
}

// share lets a child of w ask for all who ask for key at the same time. It asks for w alone if the outcome does not fit.
func share[T any](ctx context.Context, w *walk, key string, ask func(child *walk) (T, bool)) T {
	if w.fresh {
		return take(w, delegate(ctx, w, ask))
	}
	own := false
	outcome := w.d.lookups.DoChan(key, func() (any, error) {
		own = true
		return delegate(ctx, w, ask), nil
	})
	select {
	case result := <-outcome:
		if got, ok := result.Val.(shared[T]); ok && (own || got.forAll) {
			return take(w, got)
		}
		return take(w, delegate(ctx, w, ask))
	case <-ctx.Done():
		var none T
		return none
	}
}

// delegate runs ask with a child of w, whose state is its own because w may leave before it is done.
func delegate[T any](ctx context.Context, w *walk, ask func(child *walk) (T, bool)) shared[T] {
	child := &walk{d: w.d, activityID: w.activityID, hopsLeft: w.hopsLeft, asked: maps.Clone(w.asked)}
	before := child.hopsLeft
	value, forAll := ask(child)
	child.hopsUsed = before - child.hopsLeft
	return shared[T]{value: value, child: child, forAll: forAll && !child.ended && ctx.Err() == nil}
}

// take adds to w what a child, its own or another's, went through.
func take[T any](w *walk, got shared[T]) T {
	w.hopsLeft -= got.child.hopsUsed
	w.ended = w.ended || got.child.ended
	maps.Copy(w.asked, got.child.asked)
	w.failures = append(w.failures, got.child.failures...)
	w.foreign = append(w.foreign, got.child.foreign...)
	return got.value
}

// follow asks one form, beginning at target, through all redirects.
func (w *walk) follow(ctx context.Context, f form, target *url.URL, asked mailAddress) verdict {
	for {
		key := f.name + " " + target.String()
		if w.asked[key] {
			w.fail(f.name, target, errAskedAlready)
			return verdict{}
		}
		w.asked[key] = true
		answered, err := w.ask(ctx, f, target, asked)
		if err != nil {
			w.fail(f.name, target, err)
			return verdict{}
		}
		v, next, err := w.judge(f, target, answered)
		if err != nil {
			w.fail(f.name, target, err)
			return verdict{}
		}
		if (next != nil || v.redirect != nil) && !w.hop(f.name, target) {
			return verdict{}
		}
		if next == nil {
			return v
		}
		target = next
	}
}

// judge says what an answer leads to: a verdict, or the next address to ask.
func (w *walk) judge(f form, asked *url.URL, r reply) (verdict, *url.URL, error) {
	switch r.status {
	case http.StatusOK:
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		next, err := w.d.bounds.target(asked, r.location)
		return verdict{}, next, err
	default:
		return verdict{}, nil, statusError(r.status)
	}
	a, err := f.parse(r.content)
	switch {
	case err != nil:
		return verdict{}, nil, err
	case a.redirectURL != "":
		next, err := w.d.bounds.target(asked, a.redirectURL)
		return verdict{}, next, err
	case a.redirectAddress != "":
		address, err := w.d.bounds.redirectedAddress(a.redirectAddress)
		return verdict{redirect: &address}, nil, err
	}
	for _, address := range a.urls {
		if endpoint := w.d.options.Endpoint(address); endpoint != "" {
			return verdict{endpoint: endpoint, anonymous: !r.authenticated}, nil, nil
		}
	}
	for _, address := range a.urls {
		place, err := origin(address)
		if err != nil {
			return verdict{}, nil, err
		}
		w.foreign = append(w.foreign, place)
	}
	return verdict{}, nil, errForeign
}

// hop counts a redirect away from the address that was asked, and ends the walk if it is one too many.
func (w *walk) hop(name string, from *url.URL) bool {
	if w.hopsLeft <= 0 { // below, if what others found took more hops than were left here
		w.ended = true
		w.fail(name, from, errHops)
		return false
	}
	w.hopsLeft--
	return true
}

// plainRedirect asks without TLS where Autodiscover is. Only a 302 to an https address counts.
func (w *walk) plainRedirect(ctx context.Context, from *url.URL) []*url.URL {
	const name = "redirect"
	request, err := w.request(ctx, http.MethodGet, from, nil)
	if err != nil {
		w.fail(name, from, err)
		return nil
	}
	r, err := w.anonymously(name, request)
	if err == nil && r.status != http.StatusFound {
		err = statusError(r.status)
	}
	if err != nil {
		w.fail(name, from, err)
		return nil
	}
	target, err := w.d.bounds.target(from, r.location)
	if err != nil {
		w.fail(name, from, err)
		return nil
	}
	if !w.hop(name, from) {
		return nil
	}
	return []*url.URL{target}
}

// serviceRecords asks the DNS where Autodiscover is. Only records with port 443 and a host of the allowed domains count.
func (w *walk) serviceRecords(ctx context.Context, from *url.URL) []*url.URL {
	const name = "srv"
	records, err := w.lookUpRecords(ctx, from.Hostname())
	if err != nil {
		w.fail(name, from, err)
		return nil
	}
	var targets []*url.URL
	for _, record := range records {
		// In the DNS names end with the root's dot.
		host := strings.TrimSuffix(record.Target, ".")
		target, err := w.d.bounds.target(from, "https://"+net.JoinHostPort(host, strconv.Itoa(int(record.Port)))+from.Path)
		if err != nil {
			w.fail(name, from, err)
			continue
		}
		if !w.hop(name, from) {
			break
		}
		targets = append(targets, target)
	}
	return targets
}

// lookUpRecords looks up the service records of a domain. Where there are none, none are looked for for a minute.
func (w *walk) lookUpRecords(ctx context.Context, domain string) ([]*net.SRV, error) {
	key := "service records of " + domain
	if known, ok := w.d.unreachable.get(key); ok {
		return nil, known
	}
	limited, cancel := w.d.withTimeout(ctx, timeoutError{requestTimeout})
	defer cancel()
	// A resolver that finds some records malformed returns the others with an error.
	_, records, err := w.d.options.LookupSRV(limited, "autodiscover", "tcp", domain)
	switch {
	case len(records) > 0:
		return records, nil
	case ctx.Err() != nil:
		return nil, errStopped
	}
	err = lookupError(limited, err)
	w.d.unreachable.put(key, err, failureLifetime)
	return nil, err
}
