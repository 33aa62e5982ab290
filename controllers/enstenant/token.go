package enstenant

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/condition"
	"github.com/ens-operator/ens-operator/controllers/desired"
	"github.com/ens-operator/ens-operator/controllers/foreign"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

const (
	// tokenLength is the length of a token that we make: 200 random bits. Boxer takes any text (I-04).
	tokenLength = 40
	// A token that an administrator brings, to go on with that of another service, must not be easily guessed, and must
	// fit into a header.
	minTokenLength = 16
	maxTokenLength = 256
	// maxRequest bounds what names a rotation, since it is repeated in the status.
	maxRequest = 253
	// devicesSince is the version of the schema since which it tells which token devices use.
	devicesSince = 4
	day          = 24 * time.Hour
	// tokenSettles is how long a token may take from the runtime's Secret to all replicas: Kubernetes brings a changed file to
	// the pods within 90 s, and they look every 10 s.
	tokenSettles = 2 * time.Minute
)

// What the Secret of the token, and that of the keys, tells of its rotation, so that none is ever made twice for the same
// reason.
const (
	annotationRequest   = v1alpha1.GroupName + "/rotation-request"
	annotationRotatedAt = v1alpha1.GroupName + "/rotated-at"
)

// apiToken is the phones' token, and the one before as long as that is valid.
type apiToken struct {
	current  secret.Value
	previous secret.Value
	// expires is when previous ends, zero if there is none.
	expires time.Time
	// rotatedAt is when current was made, zero if it is the first. request is what had it made, empty if it was time.
	rotatedAt time.Time
	request   string
	// waits says that a rotation that is asked for, or due, waits until all replicas know current.
	waits bool
}

// ensureToken finds the API token, makes the first one, and replaces it when that is asked for or due.
func (p *pass) ensureToken(ctx context.Context) (condition.Finding, error) {
	if own := p.tenant.Spec.APIToken; own != nil && own.SecretName != "" {
		return p.readOwnToken(ctx, string(own.SecretName))
	}
	name := desired.APITokenName(p.tenant)
	kept, finding, err := p.keptToken(ctx, name)
	if kept == nil || err != nil {
		return finding, err
	}
	token, err := parseToken(kept.Data)
	if err != nil {
		return invalidToken(name, err), nil
	}
	request := p.tenant.Annotations[v1alpha1.AnnotationRotateAPIToken]
	if len(request) > maxRequest {
		return condition.Stuck(v1alpha1.ReasonInvalid, fmt.Sprintf("The value of the annotation %s is longer than %d characters",
			v1alpha1.AnnotationRotateAPIToken, maxRequest)), nil
	}
	now := p.Clock.Now()
	wanted, waits := request != "" && request != kept.Annotations[annotationRequest] || p.rotationDue(kept, now), false
	if wanted {
		if waits, err = p.tokenSettling(ctx, kept, now); err != nil {
			return condition.Finding{}, err
		}
	}
	switch {
	case wanted && !waits:
		err = p.rotateToken(ctx, kept, request, now)
	case !token.expires.IsZero() && !now.Before(token.expires):
		err = p.changeKept(ctx, kept, dropPrevious)
	}
	if err != nil {
		return condition.Finding{}, err
	}
	if token, err = parseToken(kept.Data); err != nil {
		return invalidToken(name, err), nil
	}
	token.request, token.waits = kept.Annotations[annotationRequest], waits
	token.rotatedAt, _ = time.Parse(time.RFC3339, kept.Annotations[annotationRotatedAt])
	p.useToken(token, now)
	return condition.OK(v1alpha1.ReasonReady, ""), nil
}

// useToken takes a token for the tenant's, and looks again when something about it changes by itself.
func (p *pass) useToken(token apiToken, now time.Time) {
	p.kept.token = token
	if !token.expires.IsZero() {
		p.lookAgain(token.expires.Sub(now))
	}
}

// keptToken reads the Secret with the token, or makes it. It returns no Secret with a finding about what is wrong.
func (p *pass) keptToken(ctx context.Context, name string) (*corev1.Secret, condition.Finding, error) {
	kept, err := p.readKept(ctx, name)
	if err != nil {
		return nil, condition.Finding{}, err
	}
	if kept == nil {
		inUse, err := p.readKept(ctx, desired.RuntimeName(p.tenant))
		if err != nil {
			return nil, condition.Finding{}, err
		}
		if inUse != nil && desired.Owns(p.tenant)(inUse) && p.garbage(inUse) {
			return nil, condition.Waiting(fmt.Sprintf(
				"An API token is made once Secret %s, of an EnsTenant of this name that is gone, is gone, too: the garbage collector removes it; where that does not run, delete it",
				inUse.Name)), nil
		}
		if inUse != nil && desired.Owns(p.tenant)(inUse) {
			return nil, condition.Stuck(v1alpha1.ReasonTokenLost, fmt.Sprintf(
				"Secret %s is gone, and phones use the API token in it: restore it from a backup, or delete Secret %s too to have a new token made, with which every phone must be set up anew",
				name, desired.RuntimeName(p.tenant))), nil
		}
		if finding, err := p.tokenWanted(ctx, name); err != nil || !finding.Good() {
			return nil, finding, err
		}
		annotations := map[string]string{}
		if request := p.tenant.Annotations[v1alpha1.AnnotationRotateAPIToken]; request != "" && len(request) <= maxRequest {
			annotations[annotationRequest] = request // a token that is made now is new
		}
		if kept, err = p.createKept(ctx, name, annotations, map[string][]byte{desired.APITokenKey: newToken()}); err != nil {
			return nil, condition.Finding{}, err
		}
	}
	if !desired.Keeps(p.tenant, kept) {
		return nil, p.notKept(name), nil
	}
	return kept, condition.Finding{}, nil
}

// garbage reports whether an object of the tenant's name is on its way out: an earlier tenant had it.
func (p *pass) garbage(object *corev1.Secret) bool {
	owner := metav1.GetControllerOf(object)
	return !object.DeletionTimestamp.IsZero() || owner != nil && owner.UID != p.tenant.UID
}

// tokenWanted says whether a first token may be made: not where phones hold one, as after a restore to another cluster.
func (p *pass) tokenWanted(ctx context.Context, name string) (condition.Finding, error) {
	switch {
	case p.state == nil:
		return condition.Waiting("An API token is made once the database tells that no phones hold one"), nil
	case !p.state.SchemaExists || !p.state.BelongsTo(p.identity) || p.state.Version < devicesSince:
		return condition.OK(v1alpha1.ReasonReady, ""), nil
	}
	const noToken = "" // no device has called with it
	devices, err := p.Database.DevicesWithoutToken(ctx, p.names, noToken)
	if err != nil {
		p.databaseFailed(err)
		return condition.Waiting("An API token is made once the database tells that no phones hold one"), nil
	}
	if devices > 0 {
		return condition.Stuck(v1alpha1.ReasonTokenLost, fmt.Sprintf(
			"Secret %s is gone, and %d devices in schema %s hold the API token in it: restore it from a backup, or, to set them all up anew, create it with a new token under the key %s and the labels %s=%s and %s=%s",
			name, devices, p.names.Schema, desired.APITokenKey, desired.LabelManagedBy, desired.ManagedBy, desired.LabelTenant, p.tenant.Name)), nil
	}
	return condition.OK(v1alpha1.ReasonReady, ""), nil
}

// readOwnToken takes the token from a Secret of the administrator's, who rotates it there.
func (p *pass) readOwnToken(ctx context.Context, name string) (condition.Finding, error) {
	data, err := p.Foreign.Secret(ctx, p.tenant.Namespace, name)
	if err == nil {
		err = foreign.Require(name, data, desired.APITokenKey)
	}
	if missing, ok := errors.AsType[*foreign.MissingError](err); ok {
		return condition.Stuck(missing.Reason(), missing.Error()), nil
	}
	if err != nil {
		return condition.Finding{}, err
	}
	token, err := parseToken(data)
	if err != nil {
		return invalidToken(name, err), nil
	}
	now := p.Clock.Now()
	if !now.Before(token.expires) {
		token.previous, token.expires = secret.Value{}, time.Time{}
	}
	p.useToken(token, now)
	return condition.OK(v1alpha1.ReasonReady, ""), nil
}

func invalidToken(name string, err error) condition.Finding {
	return condition.Stuck(v1alpha1.ReasonInvalid, fmt.Sprintf("Secret %s cannot be used for the API token: %v", name, err))
}

// parseToken reads the data of a Secret with a token. Its errors repeat nothing of them.
func parseToken(data map[string][]byte) (apiToken, error) {
	token := apiToken{current: secret.New(data[desired.APITokenKey])}
	if err := checkToken(data[desired.APITokenKey]); err != nil {
		return apiToken{}, fmt.Errorf("the value %s: %w", desired.APITokenKey, err)
	}
	previous, found := data[desired.PreviousTokenKey]
	if !found {
		return token, nil
	}
	if err := checkToken(previous); err != nil {
		return apiToken{}, fmt.Errorf("the value %s: %w", desired.PreviousTokenKey, err)
	}
	expires, err := time.Parse(time.RFC3339, string(bytes.TrimSpace(data[desired.PreviousTokenExpiresKey])))
	if err != nil {
		return apiToken{}, fmt.Errorf("the value %s must say when %s ends, like 2030-12-31T00:00:00Z",
			desired.PreviousTokenExpiresKey, desired.PreviousTokenKey)
	}
	token.previous, token.expires = secret.New(previous), expires.UTC()
	return token, nil
}

// rotationDue reports whether the schedule, if there is one, asks for a new token; if not yet, it looks again then.
func (p *pass) rotationDue(kept *corev1.Secret, now time.Time) bool {
	schedule := p.tenant.Spec.APIToken
	if schedule == nil || schedule.RotateEveryDays == 0 {
		return false
	}
	made := kept.CreationTimestamp.Time
	if at, err := time.Parse(time.RFC3339, kept.Annotations[annotationRotatedAt]); err == nil {
		made = at
	}
	due := made.Add(time.Duration(schedule.RotateEveryDays) * day)
	p.lookAgain(due.Sub(now))
	return !now.Before(due)
}

// tokenSettling reports whether some replica may not know the present token yet. Another rotation has to wait then: it ends the
// token before at once, and such a replica would refuse every phone.
func (p *pass) tokenSettling(ctx context.Context, kept *corev1.Secret, now time.Time) (bool, error) {
	held, err := p.readKept(ctx, desired.RuntimeName(p.tenant))
	if err != nil || held == nil {
		return false, err // without that Secret there are no replicas
	}
	present := config.APIToken{SHA256: sha256.Sum256(kept.Data[desired.APITokenKey])}
	tokens, err := config.ParseAPITokens(string(desired.TokenHashes(held.Data)))
	known := err == nil && slices.ContainsFunc(tokens, func(t config.APIToken) bool { return t.SHA256 == present.SHA256 })
	if !known {
		p.lookAgain(tokenSettles)
		return true, nil
	}
	at, err := time.Parse(time.RFC3339, kept.Annotations[annotationRotatedAt])
	if err != nil {
		return false, nil //nolint:nilerr // a token that is the first has no time
	}
	p.lookAgain(at.Add(tokenSettles).Sub(now))
	return now.Before(at.Add(tokenSettles)), nil
}

// rotateToken makes a new token. Everything about it is one write, so that it is made once whatever happens then.
func (p *pass) rotateToken(ctx context.Context, kept *corev1.Secret, request string, now time.Time) error {
	overlap := time.Duration(*p.settings.APIToken.OverlapDays) * day
	err := p.changeKept(ctx, kept, func(kept *corev1.Secret) {
		previous := kept.Data[desired.APITokenKey]
		kept.Data[desired.APITokenKey] = newToken()
		dropPrevious(kept)
		if overlap > 0 {
			kept.Data[desired.PreviousTokenKey] = previous
			kept.Data[desired.PreviousTokenExpiresKey] = []byte(now.Add(overlap).UTC().Format(time.RFC3339))
		}
		if kept.Annotations == nil {
			kept.Annotations = map[string]string{}
		}
		kept.Annotations[annotationRotatedAt] = now.UTC().Format(time.RFC3339)
		if request != "" {
			kept.Annotations[annotationRequest] = request
		}
	})
	if err == nil {
		p.Recorder.Eventf(p.tenant, nil, corev1.EventTypeNormal, "APITokenReplaced", "Rotate",
			"A new API token was made; the one before is valid for %d more days. Enter the new one, in Secret %s, in the UEM console",
			int(overlap/day), desired.BoxerName(p.tenant))
	}
	return err
}

func dropPrevious(kept *corev1.Secret) {
	delete(kept.Data, desired.PreviousTokenKey)
	delete(kept.Data, desired.PreviousTokenExpiresKey)
}

// observeToken finds out who would be locked out when the token before ends.
func (p *pass) observeToken(ctx context.Context) error {
	token := p.kept.token
	if token.current.IsZero() {
		return nil
	}
	status := &v1alpha1.APITokenStatus{Request: token.request}
	if !token.rotatedAt.IsZero() {
		status.RotatedAt = new(metav1.NewTime(token.rotatedAt))
	}
	p.findings.apiToken = status
	if token.waits {
		defer func() {
			p.findings.rotation = new(condition.Waiting("The next rotation waits until all replicas know the present API token, for two minutes or so"))
		}()
	}
	rotated := !token.rotatedAt.IsZero() || meta.FindStatusCondition(p.tenant.Status.Conditions, v1alpha1.ConditionAPITokenRotated) != nil
	switch {
	case token.expires.IsZero() && !rotated:
		return nil
	case token.expires.IsZero():
		p.findings.rotation = new(condition.OK(v1alpha1.ReasonRotated, "Only the new API token is valid"))
		return nil
	}
	status.PreviousExpires = new(metav1.NewTime(token.expires))
	until := token.expires.UTC().Format(time.RFC3339)
	if p.findings.database == nil || !p.findings.database.Good() {
		p.findings.rotation = new(condition.Waiting("The API token before is valid until " + until + "; the database does not tell who uses it"))
		return nil
	}
	current := config.APIToken{SHA256: sha256.Sum256(token.current.Reveal())}
	devices, err := p.Database.DevicesWithoutToken(ctx, p.names, current.ID())
	if err != nil {
		p.databaseFailed(err)
		return nil
	}
	status.PreviousDevices = new(int32(devices))
	p.findings.rotation = new(condition.OK(v1alpha1.ReasonPreviousTokenUnused,
		"No device uses the API token before any more; it is valid until "+until))
	if devices > 0 {
		p.findings.rotation = &condition.Finding{
			Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonPreviousTokenInUse,
			Message: fmt.Sprintf("Devices that have not called with the new API token yet: %d. They are locked out when the one before ends, at %s", devices, until),
		}
	}
	return nil
}

// newToken makes a token of upper-case letters and digits.
func newToken() []byte { return []byte((rand.Text() + rand.Text())[:tokenLength]) }

func checkToken(token []byte) error {
	if len(token) < minTokenLength || len(token) > maxTokenLength {
		return fmt.Errorf("it has %d characters, want %d to %d", len(token), minTokenLength, maxTokenLength)
	}
	if bytes.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("it has spaces, line ends or characters beyond ASCII")
	}
	return nil
}
