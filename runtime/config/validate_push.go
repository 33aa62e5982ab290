package config

import (
	"fmt"
	"slices"
)

func (f *findings) pushProviders(providers []PushProvider) {
	if len(providers) == 0 || len(providers) > maxItems {
		f.add("pushProviders", "want 1 to %d push providers, have %d", maxItems, len(providers))
		return
	}
	names := map[string]bool{}
	for i, provider := range providers {
		field := f.item("pushProviders", i, provider.Name, names)
		kinds := 0
		for _, isSet := range []bool{provider.APNs != nil, provider.FCM != nil, provider.SNS != nil, provider.CNS != nil} {
			if isSet {
				kinds++
			}
		}
		if kinds != 1 {
			f.add(field, "want exactly one of apns, fcm, sns and cns")
		}
		if provider.APNs != nil {
			f.apns(field+".apns", *provider.APNs)
		}
		if provider.FCM != nil {
			f.fcm(field+".fcm", *provider.FCM)
		}
		if provider.SNS != nil {
			f.sns(field+".sns", *provider.SNS)
		}
		if provider.CNS != nil {
			f.cns(field+".cns", *provider.CNS)
		}
		f.proxy(field+".proxy", provider.Proxy)
		f.within(field+".timeoutSeconds", provider.TimeoutSeconds, 1, maxPushTimeout)
		f.within(field+".maxConcurrentPushes", provider.MaxConcurrentPushes, 1, maxConcurrency)
	}
}

func (f *findings) fcm(field string, c FCM) {
	f.matches(field+".projectID", c.ProjectID, projectID, "the id of a Google Cloud project")
	f.appIDs(field+".appIDs", c.AppIDs, "an Android package")
	if c.URL != "" {
		f.serverURL(field+".url", c.URL)
	}
	if c.TokenURL != "" {
		f.url(field+".tokenURL", c.TokenURL, "https")
	}
}

func (f *findings) appIDs(field string, ids []string, what string) {
	if len(ids) > maxItems {
		f.add(field, "want at most %d, have %d", maxItems, len(ids))
		return
	}
	for i, id := range ids {
		item := fmt.Sprintf("%s[%d]", field, i)
		f.matches(item, id, appID, what)
		if slices.Contains(ids[:i], id) {
			f.add(item, "is there twice")
		}
	}
}
