package testenv

import (
	"context"
	"io"
	"path/filepath"
)

// nodePrograms are what a cluster with a node has beside the API server and etcd. They are not published for download.
var nodePrograms = []string{"kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"}

// ClusterPrograms returns where all programs of a whole cluster are, by their names: kube-apiserver, etcd, kubectl,
// kube-controller-manager, kube-scheduler, kubelet and kube-proxy. The latter four are built the first time, which takes
// minutes and is told on progress.
func ClusterPrograms(ctx context.Context, progress io.Writer) (map[string]string, error) {
	assets, err := Assets(ctx, progress)
	if err != nil {
		return nil, err
	}
	programs := map[string]string{}
	for _, name := range assetPrograms {
		programs[name] = filepath.Join(assets, name)
	}
	root, err := RepositoryRoot()
	if err != nil {
		return nil, err
	}
	module := filepath.Join(root, "hack", "kube")
	version, err := AssetCache{Module: module}.pinnedVersion()
	if err != nil {
		return nil, err
	}
	flags, err := linkerFlags(version)
	if err != nil {
		return nil, err
	}
	for _, name := range nodePrograms {
		if programs[name], err = kubernetesWrapper(name, module, flags).Program(ctx, progress); err != nil {
			return nil, err
		}
	}
	return programs, nil
}
