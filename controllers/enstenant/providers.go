package enstenant

import (
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/runtime/push/standing"
)

// pushStates are the runtime's words in the API's.
var pushStates = map[standing.State]v1alpha1.PushState{
	standing.Untried: v1alpha1.PushUntried, standing.Delivering: v1alpha1.PushDelivering,
	standing.Failing: v1alpha1.PushFailing, standing.Refused: v1alpha1.PushRefused,
}

// pushProviders is how the tenant's push providers fare. A state that has not changed is told as before, so that the status
// changes with it alone; a database that does not answer changes nothing.
func (p *pass) pushProviders() []v1alpha1.TenantPushProvider {
	before := p.findings.before.Status.PushProviders
	var found []v1alpha1.TenantPushProvider
	for _, name := range p.tenant.Spec.PushProviders {
		was := slices.IndexFunc(before, func(t v1alpha1.TenantPushProvider) bool { return t.Name == string(name) })
		if p.state == nil {
			if was >= 0 {
				found = append(found, before[was])
			}
			continue
		}
		sum := standing.Sum(string(name), p.state.Providers)
		is := v1alpha1.TenantPushProvider{Name: string(name), State: pushStates[sum.State], Reason: code(sum.Reason)}
		switch {
		case was >= 0 && before[was].State == is.State && before[was].Reason == is.Reason:
			is.Since = before[was].Since
		case is.State != v1alpha1.PushUntried:
			is.Since = new(metav1.NewTime(began(sum.Since, p.Clock.Now())))
		}
		found = append(found, is)
	}
	return found
}

// began is when a state began, to the minute: by the replica's clock, unless that is ahead or says nothing.
func began(since, now time.Time) time.Time {
	if since.IsZero() || since.After(now) {
		since = now
	}
	return since.Truncate(time.Minute)
}

// code lets pass what looks like a service's code, because the database is written by the tenant's runtime.
func code(reason string) string {
	const longest = 64
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"
	if len(reason) > longest || strings.Trim(reason, allowed) != "" {
		return "Other"
	}
	return reason
}
