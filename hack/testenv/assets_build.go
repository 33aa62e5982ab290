package testenv

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// versionPackages hold what the programs report as their version. Without it they call themselves v0.0.0, and the API
// server derives its feature gates and version checks from that.
var versionPackages = []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"}

// smallerTags leave out what needs reflection over all methods, which makes the programs a third smaller.
const smallerTags = "grpcnotrace,notest"

// build compiles the programs of version into folder.
func (c AssetCache) build(ctx context.Context, version, folder string, progress io.Writer) error {
	flags, err := linkerFlags(version)
	if err != nil {
		return err
	}
	for _, program := range assetPrograms {
		w := kubernetesWrapper(program, c.Module, flags)
		if err := w.build(ctx, filepath.Join(folder, program), progress); err != nil {
			return err
		}
	}
	return nil
}

// kubernetesWrapper is how a program of Kubernetes is built from the module that pins it.
func kubernetesWrapper(program, module, linkerFlags string) Wrapper {
	w := Wrapper{Name: program, Module: module, Package: "k8s.io/kubernetes/cmd/" + program, Tags: smallerTags, LinkerFlags: linkerFlags}
	if program == "etcd" {
		w.Package = "go.etcd.io/etcd/server/v3"
	}
	return w
}

func linkerFlags(version string) (string, error) {
	major, rest, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	minor, _, found := strings.Cut(rest, ".")
	if !found {
		return "", fmt.Errorf("%s is not a version of Kubernetes", version)
	}
	flags := []string{"-s", "-w"}
	for _, name := range versionPackages {
		for variable, value := range map[string]string{
			"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean",
			"gitCommit": "unknown", "buildDate": "1970-01-01T00:00:00Z",
		} {
			flags = append(flags, fmt.Sprintf("-X %s.%s=%s", name, variable, value))
		}
	}
	slices.Sort(flags[2:]) // the same each time, since it is part of what builds are told apart by
	return strings.Join(flags, " "), nil
}

// buildEnvironment is ours, but for this machine, without cgo, and without what a caller set for another module.
func buildEnvironment() ([]string, error) {
	home, err := homeFolder()
	if err != nil {
		return nil, err
	}
	// The last value of a variable counts.
	return append(os.Environ(), "HOME="+home, "GOFLAGS=", "GOWORK=off", "CGO_ENABLED=0",
		"GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH), nil
}
