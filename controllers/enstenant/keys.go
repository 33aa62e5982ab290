package enstenant

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/condition"
	"github.com/ens-operator/ens-operator/controllers/desired"
	"github.com/ens-operator/ens-operator/controllers/foreign"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

// tenantKeys are the tenant's keys.
type tenantKeys struct {
	// kept is the Secret that the operator keeps them in, nil as long as something is wrong with it.
	kept *corev1.Secret
	// own is the name of the administrator's Secret with the key-encryption keys, empty if there is none.
	own string
	// made are the keys in kept, given those in own, all are both.
	made, given, all config.Keys
	// spare are the names of those that nothing needs any more, so that no pod mounts them.
	spare []string
}

// ensureKeys finds the tenant's keys, makes the first ones, and adds others when that is asked for. Of what there is
// nothing is ever replaced, and taken away only by dropKeys.
func (p *pass) ensureKeys(ctx context.Context) (condition.Finding, error) {
	keys := tenantKeys{}
	finding, err := p.readOwnKEKs(ctx, &keys)
	if err != nil || !finding.Good() {
		return finding, err
	}
	kept, finding, err := p.keptKeys(ctx, keys)
	if kept == nil || err != nil {
		return finding, err
	}
	if finding := p.judgeKeys(kept, &keys); !finding.Good() {
		return finding, nil
	}
	keys.kept = kept
	if err := p.rotateKeys(ctx, &keys); err != nil {
		return condition.Finding{}, err
	}
	p.kept.keys = keys
	return condition.OK(v1alpha1.ReasonReady, ""), nil
}

// readOwnKEKs reads the key-encryption keys of the administrator's own, who rotates them there.
func (p *pass) readOwnKEKs(ctx context.Context, keys *tenantKeys) (condition.Finding, error) {
	if p.tenant.Spec.Encryption == nil {
		return condition.OK(v1alpha1.ReasonReady, ""), nil
	}
	name := string(p.tenant.Spec.Encryption.SecretName)
	if name == desired.KeysName(p.tenant) {
		return condition.Stuck(v1alpha1.ReasonInvalid, fmt.Sprintf(
			"spec.encryption.secretName is %s, which the operator keeps keys in itself: name a Secret of your own, or remove spec.encryption", name)), nil
	}
	data, err := p.Foreign.Secret(ctx, p.tenant.Namespace, name)
	if missing, ok := errors.AsType[*foreign.MissingError](err); ok {
		return condition.Stuck(missing.Reason(), missing.Error()), nil
	}
	if err != nil {
		return condition.Finding{}, err
	}
	keks := maps.Clone(data)
	maps.DeleteFunc(keks, func(key string, _ []byte) bool { return !strings.HasPrefix(key, config.KEKPrefix) })
	given, err := config.ParseSomeKeys(keks)
	if err != nil {
		return condition.Stuck(v1alpha1.ReasonInvalid, fmt.Sprintf(
			"Secret %s cannot be used for spec.encryption (%v): put the right value there", name, err)), nil
	}
	if len(given.KEKs) == 0 {
		missing := &foreign.MissingError{Kind: "Secret", Name: name, Key: config.KEKPrefix + "<number>"}
		return condition.Stuck(missing.Reason(), missing.Error()), nil
	}
	keys.own, keys.given = name, given
	return condition.OK(v1alpha1.ReasonReady, ""), nil
}

// keptKeys reads the Secret with the keys, or makes it. It returns no Secret with a finding about what is wrong.
func (p *pass) keptKeys(ctx context.Context, keys tenantKeys) (*corev1.Secret, condition.Finding, error) {
	name := desired.KeysName(p.tenant)
	kept, err := p.readKept(ctx, name)
	if err != nil {
		return nil, condition.Finding{}, err
	}
	if kept == nil {
		switch {
		case p.state == nil:
			return nil, condition.Waiting("Keys are made once the database tells that it holds no data sealed with others"), nil
		case !p.state.BelongsTo(p.identity):
			return nil, condition.Waiting("Keys are made once the schema is known to be the tenant's"), nil
		case p.state.SchemaExists && !p.state.Empty:
			return nil, condition.Stuck(v1alpha1.ReasonKeysLost, fmt.Sprintf(
				"Secret %s is gone, and the data in schema %s are sealed with its keys: restore it from a backup, or drop the schema to begin anew",
				name, p.names.Schema)), nil
		}
		files := config.NewKeyFiles()
		if keys.own != "" {
			maps.DeleteFunc(files, func(key string, _ []byte) bool { return strings.HasPrefix(key, config.KEKPrefix) })
		}
		annotations := map[string]string{}
		if request := p.tenant.Annotations[v1alpha1.AnnotationRotateKeys]; request != "" && len(request) <= maxRequest {
			annotations[annotationRequest] = request // keys that are made now are new
		}
		if kept, err = p.createKept(ctx, name, annotations, files); err != nil {
			return nil, condition.Finding{}, err
		}
	}
	if !desired.Keeps(p.tenant, kept) {
		return nil, p.notKept(name), nil
	}
	return kept, condition.Finding{}, nil
}

// judgeKeys says whether the keys are what is needed to open the tenant's data.
func (p *pass) judgeKeys(kept *corev1.Secret, keys *tenantKeys) condition.Finding {
	made, err := config.ParseSomeKeys(kept.Data)
	switch {
	case err != nil:
	case len(made.Webhooks) == 0:
		err = fmt.Errorf("%w: no %s<number>", config.ErrNoKey, config.WebhookPrefix)
	case len(made.KEKs) == 0 && keys.own == "":
		return condition.Stuck(v1alpha1.ReasonKeysLost, fmt.Sprintf(
			"Secret %s holds no key-encryption key: restore it from a backup, or, if they were in a Secret of your own, name that in spec.encryption.secretName",
			kept.Name))
	}
	if err != nil {
		return condition.Stuck(v1alpha1.ReasonInvalid, fmt.Sprintf("Secret %s does not hold the tenant's keys (%v): restore it from a backup", kept.Name, err))
	}
	keys.made = made
	keys.all = config.Keys{KEKs: maps.Clone(made.KEKs), Webhooks: made.Webhooks}
	for _, number := range config.Numbers(keys.given.KEKs) {
		given := keys.given.KEKs[number]
		if other, found := made.KEKs[number]; found && !other.Equal(given) {
			return condition.Stuck(v1alpha1.ReasonInvalid, fmt.Sprintf(
				"%s%d in Secret %s is another key than the one in Secret %s, which is in use: give yours a number above %d",
				config.KEKPrefix, number, keys.own, kept.Name, config.Newest(made.KEKs)))
		}
		keys.all.KEKs[number] = given
	}
	if finding := p.opens(kept.Name, keys); !finding.Good() {
		return finding
	}
	if newest := config.Newest(made.KEKs); keys.own != "" && config.Newest(keys.given.KEKs) < newest {
		return condition.Stuck(v1alpha1.ReasonInvalid, fmt.Sprintf(
			"The highest number counts, and Secret %s holds %s%d: add a key with a number above %d to Secret %s, or copy that one there",
			kept.Name, config.KEKPrefix, newest, newest, keys.own))
	}
	return condition.OK(v1alpha1.ReasonReady, "")
}

// opens says whether the keys are those that the data were sealed with.
func (p *pass) opens(kept string, keys *tenantKeys) condition.Finding {
	if p.state == nil {
		return condition.OK(v1alpha1.ReasonReady, "")
	}
	where := "Secret " + kept
	if keys.own != "" {
		where = fmt.Sprintf("Secrets %s and %s", keys.own, kept)
	}
	for _, number := range slices.Sorted(maps.Keys(p.state.KEKChecks)) {
		key, found := keys.all.KEKs[number]
		switch {
		case !found:
			return condition.Stuck(v1alpha1.ReasonKeysLost, fmt.Sprintf(
				"%s: %s%d is missing, and data in schema %s are sealed under it: add it from the backup that was made with the data, and leave the others",
				where, config.KEKPrefix, number, p.names.Schema))
		case config.CheckValue(key) != p.state.KEKChecks[number]:
			return condition.Stuck(v1alpha1.ReasonKeysLost, fmt.Sprintf(
				"%s holds other keys than those that the data in schema %s are sealed with (%s%d differs): restore the right ones from the backup that was made with the data",
				where, p.names.Schema, config.KEKPrefix, number))
		}
	}
	for _, number := range config.Numbers(keys.all.Webhooks) {
		check, known := p.state.WebhookChecks[number]
		if known && config.CheckValue(keys.all.Webhooks[number]) != check {
			return condition.Stuck(v1alpha1.ReasonKeysLost, fmt.Sprintf(
				"Secret %s holds another key as %s%d than the one that URLs at Exchange are signed with: restore the right one from the backup that was made with the data",
				kept, config.WebhookPrefix, number))
		}
	}
	return condition.OK(v1alpha1.ReasonReady, "")
}

// rotateKeys adds keys if that is asked for. Everything about it is one write, so that it is done once whatever happens then.
func (p *pass) rotateKeys(ctx context.Context, keys *tenantKeys) error {
	request := p.tenant.Annotations[v1alpha1.AnnotationRotateKeys]
	switch {
	case request == "" || request == keys.kept.Annotations[annotationRequest]:
		return nil
	case len(request) > maxRequest:
		p.findings.keysRotated = new(condition.Stuck(v1alpha1.ReasonInvalid, fmt.Sprintf(
			"The value of the annotation %s is longer than %d characters", v1alpha1.AnnotationRotateKeys, maxRequest)))
		return nil
	case p.state == nil || !p.state.Complete():
		// A number that the database knows must not get another meaning.
		p.lookAgain(keyCheck)
		p.findings.keysRotated = new(condition.Waiting("New keys are made once the database tells which are in use"))
		return nil
	}
	now := p.Clock.Now()
	use, err := p.Database.KeyUse(ctx, p.names, p.signOfLife(), now)
	if err != nil {
		p.keyUseFailed(ctx, err)
		return nil
	}
	added := map[string][]byte{}
	if keys.own == "" {
		added[config.KEKPrefix+strconv.Itoa(config.Newest(keys.all.KEKs)+1)] = config.NewKey()
	}
	signed := slices.Max(append(slices.Collect(maps.Keys(use.Signed)), config.Newest(keys.all.Webhooks)))
	added[config.WebhookPrefix+strconv.Itoa(signed+1)] = config.NewKey()
	err = p.changeKept(ctx, keys.kept, func(kept *corev1.Secret) {
		maps.Copy(kept.Data, added)
		if kept.Annotations == nil {
			kept.Annotations = map[string]string{}
		}
		kept.Annotations[annotationRotatedAt] = now.UTC().Format(time.RFC3339)
		kept.Annotations[annotationRequest] = request
	})
	if err != nil {
		return err
	}
	names := strings.Join(slices.Sorted(maps.Keys(added)), " and ")
	p.Recorder.Eventf(p.tenant, nil, corev1.EventTypeNormal, "KeysMade", "Rotate",
		"%s were made: keep a backup of Secret %s from now", names, keys.kept.Name)
	return p.addMade(added, keys)
}

// addMade takes keys that were made for the tenant's.
func (p *pass) addMade(added map[string][]byte, keys *tenantKeys) error {
	fresh, err := config.ParseSomeKeys(added)
	if err != nil {
		return fmt.Errorf("reading the keys that were made: %w", err)
	}
	for _, into := range []config.Keys{keys.made, keys.all} {
		maps.Copy(into.KEKs, fresh.KEKs)
		maps.Copy(into.Webhooks, fresh.Webhooks)
	}
	return nil
}

// files are the names of the key files that pods mount: of the Secret that the operator keeps, and of the administrator's.
func (k tenantKeys) files() (kept, own []string) {
	list := func(prefix string, keys map[int]secret.Value, into *[]string, unless map[int]secret.Value) {
		for _, number := range config.Numbers(keys) {
			name := prefix + strconv.Itoa(number)
			if _, elsewhere := unless[number]; !elsewhere && !slices.Contains(k.spare, name) {
				*into = append(*into, name)
			}
		}
	}
	list(config.KEKPrefix, k.made.KEKs, &kept, k.given.KEKs)
	list(config.WebhookPrefix, k.made.Webhooks, &kept, nil)
	list(config.KEKPrefix, k.given.KEKs, &own, nil)
	return kept, own
}
