package enstenant

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash/fnv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/apply"
	"github.com/ens-operator/ens-operator/controllers/condition"
	"github.com/ens-operator/ens-operator/controllers/database"
	"github.com/ens-operator/ens-operator/controllers/desired"
	"github.com/ens-operator/ens-operator/runtime/secret"
	"github.com/ens-operator/ens-operator/runtime/store/migrations"
)

// A password is changed by switching to the other login role, so that there is no moment in which a pod cannot connect: the
// other role gets a new password, then the Secret of the pods gets both, together with what asked for it; when all pods have
// taken that up, the first role is closed. Where it stands is in the Secret and in Postgres, so it goes on after a crash at
// any point.

const (
	// passwordOverlap is how long the password before is valid at least: kubelet may take 90 s to show a pod a changed
	// Secret, and a pod that has only just started has not told yet as which role it logs in.
	passwordOverlap = 3 * time.Minute
	// passwordPoll is how often those are asked for that use the password before; they tell every minute.
	passwordPoll = 30 * time.Second
	// After its start the operator tries each password that is in a Secret, whether the database still agrees: one that was
	// restored may not. A login costs the database far more than a look, so that is not among what has to be done first, and
	// is spread: by passwordTriedBy at the latest, when the next look at a tenant is due in any case.
	passwordTriedFrom = 15 * time.Second
	passwordTriedBy   = databaseCheck
)

// madeLogin is a login that this operator has made.
type madeLogin struct {
	role     string
	password secret.Value
	// request is what asked for it, empty if nothing did. replacedAt is when it took another's place, zero if it is the
	// first.
	request    string
	replacedAt time.Time
}

func (l madeLogin) is(other madeLogin) bool {
	return l.role == other.role && l.password.Equal(other.password)
}

// ensureLogin finds the runtime's login in the Secret that holds it, or makes one if that Secret can be written and a
// login is missing or is to be replaced. Once per process and password it tries whether the database agrees, some time after
// the first look.
func (p *pass) ensureLogin(ctx context.Context) error {
	if role, url, own := p.Database.OwnLogin(); own {
		p.login.role, p.login.url = role, url
		return nil
	}
	name := desired.RuntimeName(p.tenant)
	kept, err := p.readKept(ctx, name)
	if err != nil {
		return err
	}
	if kept != nil && !desired.Owns(p.tenant)(kept) {
		// Pods may still use the login in it, so its password stays.
		p.findings.database = new(condition.Stuck(v1alpha1.ReasonNotOwned, (&apply.NotOwnedError{Kind: "Secret", Name: name}).Error()))
		return nil
	}
	held := p.loginIn(kept)
	if held != nil && p.passwordAsked(*held) {
		// What the cache holds may be what was before an answer to this request.
		if held, err = p.liveLogin(ctx, name); err != nil {
			return err
		}
	}
	chosen, err := p.chooseLogin(ctx, held)
	if err != nil {
		p.databaseFailed(err)
		return nil
	}
	p.login.madeLogin, p.login.written = chosen, held != nil && held.is(chosen)
	p.login.url = p.Database.RuntimeURL(chosen.role, chosen.password)
	tenant, digest := client.ObjectKeyFromObject(p.tenant), sha256.Sum256(p.login.url.Reveal())
	if verified, found := p.verified.Load(tenant); found && verified == digest {
		return nil
	}
	if p.login.written && !p.passwordDue() {
		return nil
	}
	if !p.login.written || p.Database.PasswordRefused(ctx, chosen.role, chosen.password) {
		if err := p.Database.SetPassword(ctx, chosen.role, chosen.password); err != nil {
			p.databaseFailed(err)
			return nil
		}
	}
	p.verified.Store(tenant, digest)
	p.untried.Delete(tenant)
	return nil
}

// passwordDue reports whether it is time to try the password, and has the tenant looked at again when it is.
func (p *pass) passwordDue() bool {
	now := p.Clock.Now()
	due, _ := p.untried.LoadOrStore(client.ObjectKeyFromObject(p.tenant), now.Add(passwordTurn(p.identity)))
	left := due.(time.Time).Sub(now)
	p.lookAgain(left)
	return left <= 0
}

// passwordTurn is how long after the first look a tenant's password is tried. Tenants differ in it.
func passwordTurn(tenant migrations.Identity) time.Duration {
	digest := fnv.New32a()
	_, _ = digest.Write([]byte(tenant.Namespace + "/" + tenant.Name))
	return passwordTriedFrom + time.Duration(digest.Sum32())*time.Microsecond%(passwordTriedBy-passwordTriedFrom)
}

// loginIn reads the login in the Secret of the pods, nil if there is none.
func (p *pass) loginIn(kept *corev1.Secret) *madeLogin {
	if kept == nil {
		return nil
	}
	role, password, found := database.Login(desired.DatabaseURL(kept.Data), p.names)
	if !found {
		return nil
	}
	origin := desired.PasswordOrigin(kept)
	return &madeLogin{role, password, origin.Request, origin.At}
}

// liveLogin is loginIn for what the API server has.
func (p *pass) liveLogin(ctx context.Context, name string) (*madeLogin, error) {
	kept := &corev1.Secret{}
	err := p.Live.Get(ctx, client.ObjectKey{Namespace: p.tenant.Namespace, Name: name}, kept)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading Secret %s: %w", name, err)
	}
	return p.loginIn(kept), nil
}

// passwordRequest is what asks for a password, empty if nothing does that can be used.
func (p *pass) passwordRequest() string {
	request := p.tenant.Annotations[v1alpha1.AnnotationRotateDatabasePassword]
	if len(request) > maxRequest {
		return ""
	}
	return request
}

func (p *pass) passwordAsked(held madeLogin) bool {
	request := p.passwordRequest()
	return request != "" && request != held.request
}

// chooseLogin is the login to use: the one that is held, or a new one, which stays the same until it is found in the
// Secret. That may be late in the cache, or not be written for now.
func (p *pass) chooseLogin(ctx context.Context, held *madeLogin) (madeLogin, error) {
	tenant := client.ObjectKeyFromObject(p.tenant)
	if pending, found := p.made.Load(tenant); found {
		if pending := pending.(madeLogin); held == nil || !held.is(pending) {
			return pending, nil
		}
		p.made.Delete(tenant)
	}
	chosen := madeLogin{password: database.NewPassword(), request: p.passwordRequest()}
	first := false
	var err error
	switch {
	case held == nil:
		chosen.role, first, err = p.Database.FreeLogin(ctx, p.names)
	case !p.passwordAsked(*held):
		return *held, nil
	default:
		chosen.role, err = p.otherLogin(ctx, *held)
	}
	if err != nil {
		return madeLogin{}, err
	}
	if chosen.role == "" {
		return *held, nil
	}
	if !first { // pods may run that know another one
		chosen.replacedAt = p.Clock.Now()
	}
	p.made.Store(tenant, chosen)
	if held != nil {
		p.Recorder.Eventf(p.tenant, nil, corev1.EventTypeNormal, "DatabasePasswordMade", "Rotate",
			"A new database password was made, for role %s; that of role %s is valid until all pods use the new one", chosen.role, held.role)
	}
	return chosen, nil
}

// otherLogin is the role to switch to, empty as long as it may be in use from the last time.
func (p *pass) otherLogin(ctx context.Context, held madeLogin) (string, error) {
	other := p.names.Other(held.role)
	if held.replacedAt.IsZero() {
		return other, nil
	}
	use, err := p.Database.LoginUse(ctx, p.names, other, held.replacedAt, p.Clock.Now())
	if err != nil || !use.Closed || use.Sessions > 0 {
		return "", err
	}
	return other, nil
}

// passwordOrigin is what the Secret of the pods is to say of the login. One that could not be written there for long has yet
// to give the pods their time.
func (p *pass) passwordOrigin() desired.Origin {
	origin := desired.Origin{Request: p.login.request, At: p.login.replacedAt}
	if now := p.Clock.Now(); !p.login.written && !origin.At.IsZero() && now.Sub(origin.At) >= passwordOverlap {
		origin.At = now
	}
	return origin
}

// observePassword closes the role that was in use before, once no pod needs it any more, and says what is waited for.
func (p *pass) observePassword(ctx context.Context) error {
	if request := p.tenant.Annotations[v1alpha1.AnnotationRotateDatabasePassword]; len(request) > maxRequest {
		p.findings.password = new(condition.Failed(v1alpha1.ReasonInvalid, fmt.Sprintf(
			"The value of the annotation %s is longer than %d characters", v1alpha1.AnnotationRotateDatabasePassword, maxRequest)))
		return nil
	}
	if own := p.tenant.Spec.Database; own != nil && p.passwordRequest() != "" {
		p.findings.password = new(condition.Failed(v1alpha1.ReasonNotOurs, fmt.Sprintf(
			"The tenant's database is its own: change the password there and in Secret %s, and take the annotation %s away",
			own.SecretName, v1alpha1.AnnotationRotateDatabasePassword)))
		return nil
	}
	if p.login.role == "" || p.login.replacedAt.IsZero() {
		return nil
	}
	before, settled, now := p.names.Other(p.login.role), p.login.replacedAt.Add(passwordOverlap), p.Clock.Now()
	use, err := p.Database.LoginUse(ctx, p.names, before, settled, now)
	if err != nil {
		p.databaseFailed(err)
		return nil
	}
	switch {
	case use.Closed && use.Sessions == 0:
	case use.Closed: // its sessions have yet to be ended
		err = p.Database.CloseLogin(ctx, before)
	case !p.login.written && !now.Before(settled):
		p.passwordInUse("The new database password is not in the pods' Secret yet: the other conditions say what that waits for", passwordPoll)
		return nil
	case now.Before(settled):
		p.passwordInUse("Pods have time to take up the new database password until "+settled.UTC().Format(time.RFC3339), settled.Sub(now))
		return nil
	case use.Replicas > 0:
		p.passwordInUse(fmt.Sprintf("Replicas that have not said yet that they use the new database password: %d. They do within two minutes; "+
			"those of a runtime that is older than the operator when they are started anew", use.Replicas), passwordPoll)
		return nil
	default:
		err = p.Database.CloseLogin(ctx, before)
	}
	if err != nil {
		p.databaseFailed(err)
		return nil
	}
	if p.login.written && p.passwordAsked(p.login.madeLogin) {
		p.lookAgain(time.Second) // a request has waited for this
	}
	p.findings.password = new(condition.OK(v1alpha1.ReasonReplaced, fmt.Sprintf("Only the password of role %s is valid", p.login.role)))
	return nil
}

func (p *pass) passwordInUse(message string, again time.Duration) {
	p.findings.password = &condition.Finding{
		Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonPreviousPasswordInUse,
		Message: message + ". The one before, of role " + p.names.Other(p.login.role) + ", is valid until then",
	}
	p.lookAgain(max(again, time.Second))
}
