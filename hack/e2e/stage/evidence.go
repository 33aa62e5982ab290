package stage

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// evidenceLimit bounds the collecting, because what has failed may be the API server.
const evidenceLimit = time.Minute

// evidenceKinds are looked at when a story has failed. Secrets are not among them.
const evidenceKinds = "pods,deployments,replicasets,services,endpointslices,configmaps,events,networkpolicies,leases,enstenants,ewsendpoints,pushproviders,httproutes,gateways,ingresses,certificates"

// KeepEvidence writes logs and objects of the whole cluster into the folder, and returns where they are. What cannot be had
// is left out.
func (s *Stage) KeepEvidence(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, evidenceLimit)
	defer cancel()
	folder := filepath.Join(s.Folder, "evidence")
	if os.MkdirAll(folder, 0o700) != nil || s.kubectl == "" {
		return s.Folder
	}
	keep := func(name string, arguments ...string) {
		if output, err := s.Kubectl(ctx, arguments...); output != "" || err == nil {
			_ = os.WriteFile(filepath.Join(folder, name), []byte(output), 0o600) // there is nobody to tell
		}
	}
	for kind := range strings.SplitSeq(evidenceKinds, ",") { // one by one: a kind that is not there fails all
		keep(kind+".yaml", "get", kind, "--all-namespaces", "--output=yaml", "--show-managed-fields=false")
	}
	keep("pods.txt", "describe", "pods", "--all-namespaces")
	pods, _ := s.Kubectl(ctx, "get", "pods", "--all-namespaces", "--no-headers", "--output=custom-columns=:metadata.namespace,:metadata.name")
	for line := range strings.Lines(pods) {
		if pod := strings.Fields(line); len(pod) == 2 {
			keep(pod[0]+"_"+pod[1]+".log", "--namespace="+pod[0], "logs", pod[1], "--all-containers")
			keep(pod[0]+"_"+pod[1]+"_previous.log", "--namespace="+pod[0], "logs", pod[1], "--all-containers", "--previous")
		}
	}
	if s.own != nil {
		_ = os.CopyFS(filepath.Join(folder, "cluster"), os.DirFS(s.own.Logs()))
	}
	return s.Folder
}
