package tenant

import (
	"slices"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/push"
)

// SelectionError says why no single push provider serves a device.
type SelectionError struct {
	// Field is the field of the registration to look at.
	Field string
	// Problem completes the sentence.
	Problem string
}

// Error implements error.
func (e *SelectionError) Error() string { return e.Field + ": " + e.Problem }

// ProviderFor finds the one push provider that serves a device: by platform, then app, then environment. An empty app
// or environment matches all; an empty app only if the provider knows then which one is meant. Error: *SelectionError.
func (t *Tenant) ProviderFor(platform push.Platform, appID string, environment config.PushEnvironment) (*Provider, error) {
	steps := []struct {
		field string
		serve func(reach) bool
	}{
		{"platform", func(r reach) bool { return r.platform == platform }},
		{"appId", func(r reach) bool { return appID == "" || len(r.apps) == 0 || slices.Contains(r.apps, appID) }},
		{"pushEnvironment", func(r reach) bool {
			return environment == "" || r.environment == "" || r.environment == environment
		}},
	}
	candidates := make([]*Provider, 0, len(t.providers))
	for _, p := range t.providers {
		candidates = append(candidates, p)
	}
	for _, step := range steps {
		candidates = slices.DeleteFunc(candidates, func(p *Provider) bool { return !step.serve(reachOf(p.PushProvider)) })
		if len(candidates) == 0 {
			return nil, &SelectionError{step.field, "no push provider of this tenant serves it"}
		}
	}
	if len(candidates) > 1 {
		field := "appId"
		if platform == push.IOS && (appID != "" || sameApps(candidates)) {
			field = "pushEnvironment"
		}
		return nil, &SelectionError{field, "several push providers of this tenant serve the device; say which"}
	}
	if only := reachOf(candidates[0].PushProvider); only.needsApp && appID == "" {
		return nil, &SelectionError{"appId", "the push provider serves several apps; say which"}
	}
	return candidates[0], nil
}

// reach is whom a push provider serves.
type reach struct {
	platform push.Platform
	// apps are empty for all, environment is for any.
	apps        []string
	environment config.PushEnvironment
	// needsApp: it cannot tell by itself which app a device has.
	needsApp bool
}

func reachOf(p config.PushProvider) reach {
	switch {
	case p.APNs != nil:
		return reach{platform: push.IOS, apps: p.APNs.Topics, environment: p.APNs.Environment, needsApp: len(p.APNs.Topics) > 1}
	case p.FCM != nil:
		return reach{platform: push.Android, apps: p.FCM.AppIDs}
	case p.SNS != nil:
		// It was made from the ARN, so the ARN can be read.
		application, _ := config.ParsePlatformApplication(p.SNS.ApplicationARN)
		served := reach{platform: push.Android, apps: p.SNS.AppIDs, environment: application.Environment()}
		if application.IsApple() {
			served.platform = push.IOS
		}
		return served
	case p.CNS != nil:
		return reach{platform: push.Platform(p.CNS.Platform), apps: p.CNS.AppIDs, environment: p.CNS.Environment}
	default:
		return reach{}
	}
}

// sameApps reports whether the providers serve the same apps, so that naming one would not tell them apart.
func sameApps(candidates []*Provider) bool {
	apps := slices.Sorted(slices.Values(reachOf(candidates[0].PushProvider).apps))
	return !slices.ContainsFunc(candidates, func(p *Provider) bool {
		return !slices.Equal(apps, slices.Sorted(slices.Values(reachOf(p.PushProvider).apps)))
	})
}
