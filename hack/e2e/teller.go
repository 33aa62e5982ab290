package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// teller prints the stories, each step with its time.
type teller struct {
	mu    sync.Mutex
	out   io.Writer
	began time.Time
}

func newTeller(out io.Writer) *teller { return &teller{out: out, began: time.Now()} }

// chapter begins a story.
func (t *teller) chapter(title string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(t.out, "\n%s\n%s\n", title, strings.Repeat("─", len([]rune(title))))
}

// say tells one step.
func (t *teller) say(format string, arguments ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(t.out, "%7.1fs  %s\n", time.Since(t.began).Seconds(), fmt.Sprintf(format, arguments...))
}

// Write implements io.Writer for the progress of what takes long.
func (t *teller) Write(b []byte) (int, error) {
	for line := range strings.Lines(string(b)) {
		t.say("%s", strings.TrimRight(line, "\n"))
	}
	return len(b), nil
}
