package enstenant

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/condition"
	"github.com/ens-operator/ens-operator/controllers/database"
	"github.com/ens-operator/ens-operator/controllers/desired"
	"github.com/ens-operator/ens-operator/runtime/config"
)

// A key goes in an order that no callback notices. The runtimes come first (runtime/server/keys.go): all mount the new key,
// then all seal with it, then what rests under the old one is sealed anew, and then the old one is retired on record. From
// then on it is spare: new pods do not mount it. When no pod is left that does, nobody can seal or sign with it any more;
// what uses it is looked up once more, and it is taken out of the Secret. Not before: a pod's volume is not brought up to
// date any more when a key that it names is missing, and a pod that starts would wait for it.

const (
	// keyCheck is how often it is looked how a rotation gets on: the runtimes act once a minute.
	keyCheck = time.Minute
	// webhookKeyCheck is the same while only phones are waited for, which takes days.
	webhookKeyCheck = databaseCheck
)

// observeKeys finds out which keys are still needed, and how their rotation stands.
func (p *pass) observeKeys(ctx context.Context) error {
	keys := &p.kept.keys
	if keys.kept == nil {
		return nil
	}
	p.findings.keys = keys.status()
	if p.findings.keysRotated != nil { // a request that is not carried out yet
		return p.keepMounted(ctx)
	}
	if len(keys.all.KEKs) == 1 && len(keys.all.Webhooks) == 1 {
		if p.findings.keys.RotatedAt != nil || meta.FindStatusCondition(p.tenant.Status.Conditions, v1alpha1.ConditionKeysRotated) != nil {
			p.findings.keysRotated = new(condition.OK(v1alpha1.ReasonRotated, "Only the newest keys are left"))
		}
		return nil
	}
	if keys.own == "" && keys.kept.Annotations[annotationRequest] == "" {
		return nil // keys that were added by hand are taken away by hand
	}
	if p.findings.database == nil || !p.findings.database.Good() || p.state == nil {
		p.findings.keysRotated = new(condition.Waiting("The database does not tell which keys are in use"))
		return p.keepMounted(ctx)
	}
	use, err := p.Database.KeyUse(ctx, p.names, p.signOfLife(), p.Clock.Now())
	if err != nil {
		p.keyUseFailed(ctx, err)
		return p.keepMounted(ctx)
	}
	keks, webhooks := spareKeys(keys.all, p.state.KEKChecks, use)
	keys.spare = append(fileNames(config.KEKPrefix, keks), fileNames(config.WebhookPrefix, webhooks)...)
	stand := rotation{keys: *keys, use: use, spareKEKs: keks, spareWebhooks: webhooks}
	stand.tell(p.findings.keys)
	finding, soon := stand.judge()
	p.findings.keysRotated = &finding
	if soon {
		p.lookAgain(keyCheck)
	} else {
		p.lookAgain(webhookKeyCheck)
	}
	return nil
}

// signOfLife is how often Exchange posts to a subscription of which there is nothing to tell.
func (p *pass) signOfLife() time.Duration {
	return time.Duration(p.settings.Notifications.StatusFrequencyMinutes) * time.Minute
}

// keyUseFailed says that the database does not tell what uses the keys. Nothing else depends on it.
func (p *pass) keyUseFailed(ctx context.Context, err error) {
	log.FromContext(ctx).Info("Could not look up what uses the keys", "error", err.Error())
	p.lookAgain(keyCheck)
	p.findings.keysRotated = new(condition.Waiting("The database does not tell which keys are in use; it is asked again"))
}

// keepMounted leaves those of the older keys unmounted that are: whether they are needed is not known.
func (p *pass) keepMounted(ctx context.Context) error {
	deployment := &appsv1.Deployment{}
	missing, err := p.find(ctx, desired.WorkloadName(p.tenant), deployment)
	if missing || err != nil {
		return err
	}
	keys := &p.kept.keys
	older := append(fileNames(config.KEKPrefix, olderThanNewest(config.Numbers(keys.all.KEKs))),
		fileNames(config.WebhookPrefix, olderThanNewest(config.Numbers(keys.all.Webhooks)))...)
	keys.spare = slices.DeleteFunc(older, func(name string) bool {
		return mounts(deployment.Spec.Template.Spec, keys.kept.Name, name) || mounts(deployment.Spec.Template.Spec, keys.own, name)
	})
	return nil
}

// olderThanNewest are all numbers but the last.
func olderThanNewest(numbers []int) []int { return numbers[:max(0, len(numbers)-1)] }

func fileNames(prefix string, numbers []int) []string {
	var names []string
	for _, number := range numbers {
		names = append(names, prefix+strconv.Itoa(number))
	}
	return names
}

// status is what is known of the keys without the database.
func (k tenantKeys) status() *v1alpha1.KeysStatus {
	keks, webhooks := config.Numbers(k.all.KEKs), config.Numbers(k.all.Webhooks)
	status := &v1alpha1.KeysStatus{
		Request: k.kept.Annotations[annotationRequest],
		KEK:     int32(keks[len(keks)-1]), OldestKEK: int32(keks[0]),
		WebhookKey: int32(webhooks[len(webhooks)-1]), OldestWebhookKey: int32(webhooks[0]),
	}
	if at, err := time.Parse(time.RFC3339, k.kept.Annotations[annotationRotatedAt]); err == nil {
		status.RotatedAt = new(metav1.NewTime(at))
	}
	return status
}

// spareKeys are those of the older keys that nothing needs, and that no replica seals or signs with again.
//
// A replica seals with no KEK below the newest that is on record (needed holds that one). So a KEK below it that is retired,
// or was never on record, is left behind for good. Rows under it that came late, and replicas that have yet to notice, keep
// it all the same. A webhook key is left behind when every replica has the newest and signs with a newer one.
func spareKeys(keys config.Keys, needed map[int]string, use database.KeyUse) (keks, webhooks []int) {
	leftBehind := 0
	for number := range needed {
		leftBehind = max(leftBehind, number)
	}
	for _, number := range olderThanNewest(config.Numbers(keys.KEKs)) {
		_, inUse := needed[number]
		sealing := slices.ContainsFunc(use.Replicas, func(r database.Replica) bool { return 0 < r.SealingKEK && r.SealingKEK <= number })
		if number < leftBehind && !inUse && use.Sealed[number] == 0 && !sealing {
			keks = append(keks, number)
		}
	}
	newest := config.Newest(keys.Webhooks)
	for _, number := range olderThanNewest(config.Numbers(keys.Webhooks)) {
		signing := slices.ContainsFunc(use.Replicas, func(r database.Replica) bool {
			return !slices.Contains(r.WebhookKeys, newest) || 0 < r.SealingWebhook && r.SealingWebhook <= number
		})
		if use.Signed[number] == 0 && use.Replaced[number] == 0 && !signing {
			webhooks = append(webhooks, number)
		}
	}
	return keks, webhooks
}

// dropKeys takes spare keys out of the Secret that the operator keeps, once no pod mounts them.
func (p *pass) dropKeys(ctx context.Context) error {
	keys := &p.kept.keys
	spare := slices.DeleteFunc(slices.Clone(keys.spare), func(name string) bool { return keys.kept.Data[name] == nil })
	if len(spare) == 0 || p.findings.database == nil || !p.findings.database.Good() ||
		p.findings.workload == nil || !p.findings.workload.Good() || !p.findings.rollout.Good() {
		return nil
	}
	// In this order: nobody who could seal with them is left, and then nothing that was sealed with them.
	pods := &corev1.PodList{}
	err := p.Live.List(ctx, pods, client.InNamespace(p.tenant.Namespace), client.MatchingLabels(desired.SelectorLabels(p.tenant)))
	if err != nil {
		return fmt.Errorf("looking which pods mount older keys: %w", err)
	}
	spare = slices.DeleteFunc(spare, func(name string) bool {
		return slices.ContainsFunc(pods.Items, func(pod corev1.Pod) bool { return !ended(pod) && mounts(pod.Spec, keys.kept.Name, name) })
	})
	if len(spare) == 0 {
		return nil
	}
	still, err := p.stillSpare(ctx)
	if err != nil {
		p.keyUseFailed(ctx, err)
		return nil
	}
	spare = slices.DeleteFunc(spare, func(name string) bool { return !slices.Contains(still, name) })
	if len(spare) == 0 {
		return nil
	}
	err = p.changeKept(ctx, keys.kept, func(kept *corev1.Secret) {
		maps.DeleteFunc(kept.Data, func(name string, _ []byte) bool { return slices.Contains(spare, name) })
	})
	if err != nil {
		return err
	}
	p.Recorder.Eventf(p.tenant, nil, corev1.EventTypeNormal, "KeysRemoved", "Rotate",
		"Nothing uses %s any more: removed from Secret %s. Backups of the data from before need it", strings.Join(spare, " and "), keys.kept.Name)
	return nil
}

// stillSpare looks once more which keys nothing needs.
func (p *pass) stillSpare(ctx context.Context) ([]string, error) {
	state, err := p.Database.Inspect(ctx, p.names)
	if err != nil || !state.SchemaExists || !state.BelongsTo(p.identity) {
		return nil, err
	}
	use, err := p.Database.KeyUse(ctx, p.names, p.signOfLife(), p.Clock.Now())
	if err != nil {
		return nil, err
	}
	keks, webhooks := spareKeys(p.kept.keys.all, state.KEKChecks, use)
	return append(fileNames(config.KEKPrefix, keks), fileNames(config.WebhookPrefix, webhooks)...), nil
}

// ended reports whether a pod's containers have ended for good.
func ended(pod corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// mounts reports whether a pod sees a key of a Secret.
func mounts(spec corev1.PodSpec, from, key string) bool {
	return slices.ContainsFunc(spec.Volumes, func(v corev1.Volume) bool {
		return v.Projected != nil && slices.ContainsFunc(v.Projected.Sources, func(s corev1.VolumeProjection) bool {
			return s.Secret != nil && s.Secret.Name == from &&
				slices.ContainsFunc(s.Secret.Items, func(item corev1.KeyToPath) bool { return item.Key == key })
		})
	})
}

// rotation is how the rotation of the keys stands.
type rotation struct {
	keys                     tenantKeys
	use                      database.KeyUse
	spareKEKs, spareWebhooks []int
}

// tell fills in what the status says of a rotation.
func (r rotation) tell(status *v1alpha1.KeysStatus) {
	oldest := func(keys map[int]bool) int32 { return int32(slices.Min(slices.Collect(maps.Keys(keys)))) }
	keks, webhooks := map[int]bool{}, map[int]bool{}
	for number := range r.keys.all.KEKs {
		keks[number] = true
	}
	for number := range r.keys.all.Webhooks {
		webhooks[number] = true
	}
	for _, number := range r.spareKEKs {
		delete(keks, number)
	}
	for _, number := range r.spareWebhooks {
		delete(webhooks, number)
	}
	status.OldestKEK, status.OldestWebhookKey = oldest(keks), oldest(webhooks)
	if len(r.keys.all.KEKs) > 1 {
		status.SealedUnderOlder = new(int32(r.sealedUnderOlder()))
	}
	if len(r.keys.all.Webhooks) > 1 {
		status.SignedWithOlder = new(int32(r.olderThan(config.Newest(r.keys.all.Webhooks), r.use.Signed)))
	}
}

func (r rotation) sealedUnderOlder() int {
	return r.olderThan(config.Newest(r.keys.all.KEKs), r.use.Sealed)
}

// olderThan adds up the counts of all numbers below newest.
func (r rotation) olderThan(newest int, counts map[int]int) int {
	sum := 0
	for number, count := range counts {
		if number < newest {
			sum += count
		}
	}
	return sum
}

// judge says what is waited for, and whether that may come within minutes.
func (r rotation) judge() (finding condition.Finding, soon bool) {
	if lost := r.lostWebhookKeys(); lost != "" {
		return condition.Stuck(v1alpha1.ReasonKeysLost, lost), false
	}
	lacking := r.replicas(func(replica database.Replica) bool {
		return !slices.Contains(replica.KEKs, config.Newest(r.keys.all.KEKs)) || !slices.Contains(replica.WebhookKeys, config.Newest(r.keys.all.Webhooks))
	})
	if lacking > 0 {
		return waitingFor(v1alpha1.ReasonReplicasLackKeys, fmt.Sprintf(
			"Replicas that do not have the new keys yet: %d of %d. The pods are being replaced; one that is gone without a word counts for ten minutes",
			lacking, len(r.use.Replicas))), true
	}
	var waits []condition.Finding
	var hints []string
	if wait := r.waitForKEKs(); wait != nil {
		waits, soon = append(waits, *wait), true
	}
	if dropping := r.keptAmong(append(fileNames(config.KEKPrefix, r.spareKEKs), fileNames(config.WebhookPrefix, r.spareWebhooks)...)); len(dropping) > 0 {
		waits, soon = append(waits, waitingFor(v1alpha1.ReasonOlderKeyMounted, fmt.Sprintf(
			"Not needed any more, and to be removed from Secret %s when no pod mounts it: %s", r.keys.kept.Name, strings.Join(dropping, ", ")))), true
	}
	if wait := r.waitForPhones(); wait != nil {
		waits = append(waits, *wait)
	}
	for _, number := range r.spareKEKs {
		if _, own := r.keys.given.KEKs[number]; own {
			hints = append(hints, fmt.Sprintf("%s%d is not needed any more and may be removed from Secret %s once the pods have been replaced; backups of the data from before need it",
				config.KEKPrefix, number, r.keys.own))
		}
	}
	if len(waits) == 0 {
		return condition.OK(v1alpha1.ReasonRotated, strings.Join(append([]string{"Only the newest keys are in use"}, hints...), "; ")), false
	}
	for _, wait := range waits[1:] {
		waits[0].Message += ". " + wait.Message
	}
	waits[0].Message = strings.Join(append([]string{waits[0].Message}, hints...), ". ")
	return waits[0], soon
}

func waitingFor(reason, message string) condition.Finding {
	return condition.Finding{Status: metav1.ConditionUnknown, Reason: reason, Message: message}
}

func (r rotation) replicas(which func(database.Replica) bool) int {
	count := 0
	for _, replica := range r.use.Replicas {
		if which(replica) {
			count++
		}
	}
	return count
}

// keptAmong are those of names that are in the Secret that the operator keeps.
func (r rotation) keptAmong(names []string) []string {
	return slices.DeleteFunc(names, func(name string) bool { return r.keys.kept.Data[name] == nil })
}

// lostWebhookKeys says which webhook keys are missing although Exchange holds URLs that they signed; empty if none is.
func (r rotation) lostWebhookKeys() string {
	for _, number := range slices.Sorted(maps.Keys(r.use.Signed)) {
		if _, found := r.keys.all.Webhooks[number]; !found && r.use.Signed[number] > 0 {
			return fmt.Sprintf("Secret %s lacks %s%d, which signed the URLs of %d subscriptions: add it from a backup, or those phones are not notified until they register again",
				r.keys.kept.Name, config.WebhookPrefix, number, r.use.Signed[number])
		}
	}
	return ""
}

// waitForKEKs says what keeps the older KEKs; nil if nothing does.
func (r rotation) waitForKEKs() *condition.Finding {
	older := slices.DeleteFunc(olderThanNewest(config.Numbers(r.keys.all.KEKs)), func(number int) bool { return slices.Contains(r.spareKEKs, number) })
	if len(older) == 0 {
		return nil
	}
	newest := config.Newest(r.keys.all.KEKs)
	behind := r.replicas(func(replica database.Replica) bool { return replica.SealingKEK < newest })
	rows := r.sealedUnderOlder()
	switch {
	case len(r.use.Replicas) == 0:
		return new(waitingFor(v1alpha1.ReasonSealedUnderOlderKey, fmt.Sprintf(
			"No replica is heard of that could seal anew what is under an older key-encryption key (%d rows): run at least one", rows)))
	case behind > 0:
		return new(waitingFor(v1alpha1.ReasonSealedUnderOlderKey, fmt.Sprintf(
			"Replicas that still seal under an older key-encryption key: %d. They change within a minute or two", behind)))
	case rows > 0:
		return new(waitingFor(v1alpha1.ReasonSealedUnderOlderKey, fmt.Sprintf(
			"Rows under an older key-encryption key: %d. They are sealed anew within minutes; one that does not open keeps its key, and the runtime's log says which and what to do",
			rows)))
	}
	return new(waitingFor(v1alpha1.ReasonSealedUnderOlderKey,
		"Nothing is sealed under an older key-encryption key any more; it is kept for some minutes more, for calls that are under way"))
}

// waitForPhones says what keeps the older webhook keys; nil if nothing does.
func (r rotation) waitForPhones() *condition.Finding {
	newest := config.Newest(r.keys.all.Webhooks)
	older := slices.DeleteFunc(olderThanNewest(config.Numbers(r.keys.all.Webhooks)), func(number int) bool { return slices.Contains(r.spareWebhooks, number) })
	if len(older) == 0 {
		return nil
	}
	signed, replaced := r.olderThan(newest, r.use.Signed), r.olderThan(newest, r.use.Replaced)
	switch {
	case signed > 0:
		return new(waitingFor(v1alpha1.ReasonOlderWebhookKeyInUse, fmt.Sprintf(
			"Subscriptions whose URL an older webhook key signed: %d. It is kept until their phones have registered again", signed)))
	case replaced > 0:
		return new(waitingFor(v1alpha1.ReasonOlderWebhookKeyInUse, fmt.Sprintf(
			"Exchange may still post to subscriptions that were replaced within the hour: %d. An older webhook key is kept for them", replaced)))
	}
	return new(waitingFor(v1alpha1.ReasonOlderWebhookKeyInUse, "Replicas still sign with an older webhook key; they change within a minute or two"))
}
