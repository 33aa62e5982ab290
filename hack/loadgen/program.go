package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// program is a runtime that runs. It logs into a file, as a container's log is one: under load there is much of it.
type program struct {
	command *exec.Cmd
	log     string
	ended   chan struct{}
}

// logPoll is how often the log is looked at until a line is there.
const logPoll = 2 * time.Millisecond

func startProgram(log, path string, arguments ...string) (*program, error) {
	file, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer file.Close() // the program has its own handle
	p := &program{command: exec.Command(path, arguments...), log: log, ended: make(chan struct{})}
	p.command.Stdout, p.command.Stderr = file, file
	if err := p.command.Start(); err != nil {
		return nil, fmt.Errorf("starting the runtime: %w", err)
	}
	go func() {
		_ = p.command.Wait() // how it ended stands in its log
		close(p.ended)
	}()
	return p, nil
}

// line waits for the log line with this message.
func (p *program) line(ctx context.Context, message string) (map[string]any, error) {
	for {
		content, err := os.ReadFile(p.log)
		if err != nil {
			return nil, err
		}
		for line := range bytes.Lines(content) {
			var fields map[string]any
			if json.Unmarshal(line, &fields) == nil && fields["msg"] == message {
				return fields, nil
			}
		}
		select {
		case <-time.After(logPoll):
		case <-p.ended:
			return nil, fmt.Errorf("the runtime has ended:\n%s", p.tail())
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for %q in the runtime's log: %w\n%s", message, ctx.Err(), p.tail())
		}
	}
}

// tail is what it said last.
func (p *program) tail() string {
	const size = 2000
	content, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(content[max(0, len(content)-size):])
}

func (p *program) pid() int { return p.command.Process.Pid }

// stop ends it as Kubernetes does, and kills it when ctx ends first.
func (p *program) stop(ctx context.Context) error {
	_ = p.command.Process.Signal(os.Interrupt) // it may be gone already
	select {
	case <-p.ended:
		return nil
	case <-ctx.Done():
		_ = p.command.Process.Kill()
		<-p.ended
		return errors.New("the runtime did not end when asked to")
	}
}
