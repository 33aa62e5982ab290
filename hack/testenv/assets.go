package testenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"regexp"

	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// AssetsVariable is the environment variable, common to projects that use envtest, that names a folder with
// kube-apiserver, etcd and kubectl.
const AssetsVariable = "KUBEBUILDER_ASSETS"

var assetPrograms = []string{"kube-apiserver", "etcd", "kubectl"}

// Assets returns a folder with kube-apiserver, etcd and kubectl: the one that KUBEBUILDER_ASSETS names, else one in
// the user's cache, filled the first time by a download, or, where that cannot be reached, by building them from Go
// modules. That takes minutes, once, and says on progress what it is doing at least every ten seconds.
func Assets(ctx context.Context, progress io.Writer) (string, error) {
	if folder := os.Getenv(AssetsVariable); folder != "" {
		if missing := missingAsset(folder); missing != "" {
			return "", fmt.Errorf("%s is set to %s, where there is no %s", AssetsVariable, folder, missing)
		}
		return folder, nil
	}
	root, err := RepositoryRoot()
	if err != nil {
		return "", fmt.Errorf("looking for the pinned version of Kubernetes: %w", err)
	}
	cache, err := cacheFolder()
	if err != nil {
		return "", err
	}
	return AssetCache{
		Folder:   filepath.Join(cache, "kube"),
		Module:   filepath.Join(root, "hack", "kube"),
		IndexURL: envtest.DefaultBinaryAssetsIndexURL,
	}.Get(ctx, progress)
}

// AssetCache keeps the programs of the pinned version of Kubernetes.
type AssetCache struct {
	// Folder holds one folder per version.
	Folder string
	// Module is the folder of the Go module that pins the version and that the programs can be built from.
	Module string
	// IndexURL is the list of released archives, as envtest publishes it.
	IndexURL string
}

// Get returns the folder of the pinned version. Processes that call it at once wait for the first to fill it.
func (c AssetCache) Get(ctx context.Context, progress io.Writer) (string, error) {
	version, err := c.pinnedVersion()
	if err != nil {
		return "", err
	}
	folder := filepath.Join(c.Folder, version)
	if missingAsset(folder) == "" {
		return folder, nil
	}
	const private = 0o700
	if err := os.MkdirAll(c.Folder, private); err != nil {
		return "", fmt.Errorf("making the cache folder: %w", err)
	}
	unlock, err := lock(ctx, folder+".lock", progress, "another process to provide Kubernetes "+version)
	if err != nil {
		return "", err
	}
	defer unlock()
	if missingAsset(folder) == "" {
		return folder, nil
	}
	return folder, c.fill(ctx, folder, version, progress)
}

// fill makes folder complete or not at all.
func (c AssetCache) fill(ctx context.Context, folder, version string, progress io.Writer) (err error) {
	// What is there lacks something, or an earlier process died in the middle: under the lock both are ours.
	making := folder + ".making"
	if err := errors.Join(os.RemoveAll(folder), os.RemoveAll(making), os.Mkdir(making, 0o755)); err != nil {
		return fmt.Errorf("preparing the cache folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(making)) }()

	if downloadErr := c.download(ctx, version, making, progress); downloadErr != nil {
		fmt.Fprintf(progress, "testenv: no ready-made Kubernetes %s (%v); building it, which takes some minutes once\n",
			version, downloadErr)
		if err := c.build(ctx, version, making, progress); err != nil {
			return err
		}
	}
	if missing := missingAsset(making); missing != "" {
		return fmt.Errorf("providing Kubernetes %s: %s is missing in the result", version, missing)
	}
	if err := os.Rename(making, folder); err != nil {
		return fmt.Errorf("putting Kubernetes %s into the cache: %w", version, err)
	}
	return nil
}

// pinPattern finds the version in the module's go.mod.
var pinPattern = regexp.MustCompile(`(?m)^\s*k8s\.io/kubernetes (v\S+)`)

func (c AssetCache) pinnedVersion() (string, error) {
	text, err := os.ReadFile(filepath.Join(c.Module, "go.mod"))
	if err != nil {
		return "", fmt.Errorf("reading the pinned version of Kubernetes: %w", err)
	}
	match := pinPattern.FindSubmatch(text)
	if match == nil {
		return "", fmt.Errorf("%s/go.mod requires no k8s.io/kubernetes", c.Module)
	}
	return string(match[1]), nil
}

// missingAsset is the first program that folder lacks.
func missingAsset(folder string) string {
	for _, program := range assetPrograms {
		if !executable(filepath.Join(folder, program)) {
			return program
		}
	}
	return ""
}

// cacheFolder is the project's folder in the user's cache, outside of any checkout.
func cacheFolder() (string, error) {
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		home, err := homeFolder()
		if err != nil {
			return "", err
		}
		cache = filepath.Join(home, ".cache")
	}
	return filepath.Join(cache, "ens-operator"), nil
}

// homeFolder is $HOME, or where it is not set, as in some CI systems, what the system's user database says.
func homeFolder() (string, error) {
	if home := os.Getenv("HOME"); home != "" {
		return home, nil
	}
	current, err := user.Current()
	if err != nil {
		return "", fmt.Errorf("looking for a home folder (set HOME or XDG_CACHE_HOME): %w", err)
	}
	return current.HomeDir, nil
}
