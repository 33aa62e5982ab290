package stage

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"
)

//go:embed manifests
var manifests embed.FS

// Kubectl runs the command as an administrator would and returns what it prints.
func (s *Stage) Kubectl(ctx context.Context, arguments ...string) (string, error) {
	return s.run(ctx, nil, s.kubectl, append([]string{"--kubeconfig=" + s.kubeconfig}, arguments...)...)
}

// Helm runs the command as an administrator would and returns what it prints.
func (s *Stage) Helm(ctx context.Context, arguments ...string) (string, error) {
	return s.run(ctx, nil, s.helm, append([]string{"--kubeconfig=" + s.kubeconfig}, arguments...)...)
}

// Apply applies one of the manifests, filled with data, with `kubectl apply --server-side`, and returns what that prints.
func (s *Stage) Apply(ctx context.Context, name string, data any) (string, error) {
	text, err := fill(name, data)
	if err != nil {
		return "", err
	}
	return s.run(ctx, text, s.kubectl, "--kubeconfig="+s.kubeconfig, "apply", "--server-side", "-f", "-")
}

// fill returns a manifest with data in it.
func fill(name string, data any) ([]byte, error) {
	parsed, err := template.New(name).Option("missingkey=error").Funcs(template.FuncMap{"indent": indent}).
		ParseFS(manifests, "manifests/"+name)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	err = parsed.Execute(&text, data)
	return text.Bytes(), err
}

// indent moves every line to the right, for a block in YAML.
func indent(by int, text []byte) string {
	space := strings.Repeat(" ", by)
	return space + strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", "\n"+space)
}

func (s *Stage) run(ctx context.Context, input []byte, program string, arguments ...string) (string, error) {
	command := exec.CommandContext(ctx, program, arguments...)
	command.Stdin = bytes.NewReader(input)
	var output, problems bytes.Buffer
	command.Stdout, command.Stderr = &output, &problems
	if err := command.Run(); err != nil {
		return output.String(), fmt.Errorf("%s %s: %w: %s", filepath.Base(program), strings.Join(arguments, " "), err,
			strings.TrimSpace(problems.String()))
	}
	return output.String(), nil
}

// WriteManifest writes one of the manifests, filled with data, into the folder, for commands that read files.
func (s *Stage) WriteManifest(name string, data any) (string, error) {
	text, err := fill(name, data)
	if err != nil {
		return "", err
	}
	file := filepath.Join(s.Folder, name)
	return file, os.WriteFile(file, text, 0o600)
}
