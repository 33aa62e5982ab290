package testenv

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
)

const modulePath = "github.com/ens-operator/ens-operator"

var moduleLine = regexp.MustCompile(`(?m)^module ` + regexp.QuoteMeta(modulePath) + `$`)

// RepositoryRoot is the folder of the checkout that the working directory lies in. Tests and `go run` work inside it.
func RepositoryRoot() (string, error) {
	folder, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("looking for the checkout: %w", err)
	}
	for start := folder; ; {
		text, err := os.ReadFile(filepath.Join(folder, "go.mod"))
		if err == nil && moduleLine.Match(text) {
			return folder, nil
		}
		parent := filepath.Dir(folder)
		if parent == folder {
			return "", fmt.Errorf("%s is not inside a checkout of %s", start, modulePath)
		}
		folder = parent
	}
}

// ModuleFolder is where the go command keeps the files of a module that the checkout depends on; it downloads them if
// need be.
func ModuleFolder(ctx context.Context, root, module string) (string, error) {
	command := exec.CommandContext(ctx, "go", "mod", "download", "-json", module)
	command.Dir = root
	output, err := command.Output()
	// With -json the go command says what went wrong in its output.
	var answer struct{ Dir, Error string }
	if decodeErr := json.NewDecoder(bytes.NewReader(output)).Decode(&answer); decodeErr != nil {
		return "", fmt.Errorf("asking the go command for %s: %w", module, errors.Join(err, decodeErr))
	}
	if answer.Error != "" {
		return "", fmt.Errorf("downloading %s: %s", module, answer.Error)
	}
	return answer.Dir, nil
}
