package testenv

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Helm returns where the helm command is, of the version that hack/tools/helm pins. The first time it is built, which
// takes minutes; afterwards it is in the go command's cache.
func Helm(ctx context.Context, progress io.Writer) (path string, err error) {
	root, err := RepositoryRoot()
	if err != nil {
		return "", err
	}
	watch := startWatch(progress, "building helm")
	defer func() { watch.done(err) }()
	// -n has the go command build the tool and print where it is, instead of running it.
	build := exec.CommandContext(ctx, "go", "tool", "-n", "-modfile="+filepath.Join("hack", "tools", "helm", "go.mod"), "helm")
	build.Dir = root
	var problems bytes.Buffer
	build.Stderr = &problems
	output, err := build.Output()
	if err != nil {
		return "", fmt.Errorf("building helm: %w\n%s", err, problems.Bytes())
	}
	path = strings.TrimSpace(string(output))
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("looking for helm: %w", err)
	}
	return path, nil
}
