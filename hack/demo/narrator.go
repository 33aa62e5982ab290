package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// narrator prints the story, each step with its time.
type narrator struct {
	mu    sync.Mutex
	out   io.Writer
	began time.Time
}

func newNarrator(out io.Writer) *narrator { return &narrator{out: out, began: time.Now()} }

// chapter begins a part of the story.
func (n *narrator) chapter(title string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	fmt.Fprintf(n.out, "\n%s\n%s\n", title, strings.Repeat("─", len([]rune(title))))
}

// say tells one step.
func (n *narrator) say(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	fmt.Fprintf(n.out, "%7.2fs  %s\n", time.Since(n.began).Seconds(), fmt.Sprintf(format, args...))
}

// Write implements io.Writer for the progress of what takes long.
func (n *narrator) Write(b []byte) (int, error) {
	for line := range strings.Lines(string(b)) {
		n.say("%s", strings.TrimRight(line, "\n"))
	}
	return len(b), nil
}

// screen draws a phone's lock screen.
func (n *narrator) screen(phone string, badge int, lines ...string) {
	const width = 46
	n.mu.Lock()
	defer n.mu.Unlock()
	row := func(text string) {
		cut := []rune(text)
		if len(cut) > width {
			cut = append(cut[:width-1], '…')
		}
		fmt.Fprintf(n.out, "            │ %s%s │\n", string(cut), strings.Repeat(" ", width-len(cut)))
	}
	fmt.Fprintf(n.out, "            ╭%s╮\n", strings.Repeat("─", width+2))
	title := phone
	if badge > 0 {
		title = fmt.Sprintf("%s   Boxer (%d)", phone, badge)
	}
	row(title)
	row("")
	for _, line := range lines {
		row(line)
	}
	fmt.Fprintf(n.out, "            ╰%s╯\n", strings.Repeat("─", width+2))
}
