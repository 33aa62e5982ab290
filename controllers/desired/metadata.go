package desired

import (
	"maps"
	"strings"
)

// toolPrefixes begin the keys of labels and annotations by which tools recognise what they have made. On an object of ours
// they would have the tool take it for its own, and remove it, or fight over it with the operator for ever.
var toolPrefixes = []string{
	"argocd.argoproj.io/", "kubectl.kubernetes.io/", "meta.helm.sh/", "helm.sh/",
	"kustomize.toolkit.fluxcd.io/", "helm.toolkit.fluxcd.io/", "config.k8s.io/", "kapp.k14s.io/",
}

// allowedMetadata is what may be written of the labels or annotations that somebody wants on an object of the operator's.
// Those of the EnsTenant itself are never copied.
func allowedMetadata(wanted map[string]string) map[string]string {
	allowed := maps.Clone(wanted)
	maps.DeleteFunc(allowed, func(key, _ string) bool {
		for _, prefix := range toolPrefixes {
			if strings.HasPrefix(key, prefix) {
				return true
			}
		}
		return false
	})
	return allowed
}
