// Package process runs the project's programs as tests and the demo need them: built from the checkout, their output
// kept, ended for certain.
package process

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/ens-operator/ens-operator/hack/testenv"
)

// Build builds cmd/<name> into folder and returns the program's path.
func Build(ctx context.Context, folder, name string) (string, error) {
	return BuildFrom(ctx, folder, "cmd/"+name)
}

// BuildFrom builds the program whose source is in a folder of the repository, with further flags of go build, and returns
// its path.
func BuildFrom(ctx context.Context, folder, source string, flags ...string) (string, error) {
	root, err := testenv.RepositoryRoot()
	if err != nil {
		return "", err
	}
	path := filepath.Join(folder, "ens-"+filepath.Base(source))
	arguments := append([]string{"build", "-o", path}, flags...)
	build := exec.CommandContext(ctx, "go", append(arguments, "./"+source)...)
	build.Dir = root
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", source, err, output)
	}
	return path, nil
}

// Process is a running program.
type Process struct {
	command *exec.Cmd
	done    chan struct{}
	err     error

	mu      sync.Mutex
	content bytes.Buffer
	more    chan struct{}
}

// Start starts a program and keeps what it prints. The caller ends it.
func Start(command *exec.Cmd) (*Process, error) {
	p := &Process{command: command, done: make(chan struct{}), more: make(chan struct{})}
	command.Stdout, command.Stderr = p, p
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", filepath.Base(command.Path), err)
	}
	go func() {
		p.err = command.Wait()
		close(p.done)
	}()
	return p, nil
}

// PID is the process' number.
func (p *Process) PID() int { return p.command.Process.Pid }

// Kill ends the process as kill -9 does, and waits until it is gone.
func (p *Process) Kill() {
	_ = p.command.Process.Kill() // it may be gone already
	<-p.done
}

// Terminate asks the process to end, as Kubernetes does, and returns how it ended. It is killed when ctx ends first.
func (p *Process) Terminate(ctx context.Context) error {
	_ = p.command.Process.Signal(syscall.SIGTERM) // it may be gone already
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		p.Kill()
		return fmt.Errorf("%s did not end when asked to: %w", filepath.Base(p.command.Path), ctx.Err())
	}
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Write implements io.Writer for the program's output.
func (p *Process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.more)
	p.more = make(chan struct{})
	return p.content.Write(b)
}

// Output is what the program has printed so far.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.content.String()
}

// Field waits for the JSON log line with this message and returns one of its fields; empty if the line does not come
// before ctx or the process ends.
func (p *Process) Field(ctx context.Context, message, name string) string {
	for {
		p.mu.Lock()
		content, more := bytes.Clone(p.content.Bytes()), p.more
		p.mu.Unlock()
		for line := range bytes.Lines(content) {
			var fields map[string]any
			if json.Unmarshal(line, &fields) == nil && fields["msg"] == message {
				value, _ := fields[name].(string)
				return value
			}
		}
		select {
		case <-more:
		case <-p.done:
			return ""
		case <-ctx.Done():
			return ""
		}
	}
}
