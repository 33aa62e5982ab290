// Package meter measures what programs and a Postgres take, as the operating system and the server tell it.
package meter

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of the CPU times in /proc/<pid>/stat: USER_HZ, which is 100 on every Linux.
const tick = 10 * time.Millisecond

// The fields of /proc/<pid>/stat, counted from behind the name in parentheses (proc(5)).
const (
	fieldParent       = 1
	fieldUserTime     = 11
	fieldSystemTime   = 12
	fieldChildrenUser = 13
	fieldChildrenSys  = 14
	fieldsNeeded      = 15
)

// CPU is the CPU time that a process has taken, user and system.
func CPU(pid int) (time.Duration, error) {
	fields, err := stat(pid)
	if err != nil {
		return 0, err
	}
	return ticks(fields, fieldUserTime, fieldSystemTime), nil
}

// CPUWithChildren is the CPU time of a process and its children, those that have ended and were waited for among them. For
// a Postgres that is everything the server has done.
func CPUWithChildren(pid int) (time.Duration, error) {
	fields, err := stat(pid)
	if err != nil {
		return 0, err
	}
	total := ticks(fields, fieldUserTime, fieldSystemTime, fieldChildrenUser, fieldChildrenSys)
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	for _, path := range paths {
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			continue
		}
		if fields, err := stat(child); err == nil && fields[fieldParent] == strconv.Itoa(pid) { // one that has just ended is among the dead
			total += ticks(fields, fieldUserTime, fieldSystemTime)
		}
	}
	return total, nil
}

func ticks(fields []string, indexes ...int) time.Duration {
	var sum int64
	for _, i := range indexes {
		n, _ := strconv.ParseInt(fields[i], 10, 64) // the kernel writes numbers
		sum += n
	}
	return time.Duration(sum) * tick
}

func stat(pid int) ([]string, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, fmt.Errorf("reading the CPU time of process %d: %w", pid, err)
	}
	// The name may hold anything, so what follows its end is counted.
	fields := strings.Fields(string(content[bytes.LastIndexByte(content, ')')+1:]))
	if len(fields) < fieldsNeeded {
		return nil, fmt.Errorf("reading the CPU time of process %d: %d fields", pid, len(fields))
	}
	return fields, nil
}

// Memory is what a process holds for itself, in bytes (RssAnon): the program's text is not among it.
func Memory(pid int) (int64, error) { return status(pid, "RssAnon:") }

// MostMemory is the most that a process has ever held, in bytes, its text among it (VmHWM).
func MostMemory(pid int) (int64, error) { return status(pid, "VmHWM:") }

func status(pid int, field string) (int64, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("reading the memory of process %d: %w", pid, err)
	}
	for line := range strings.Lines(string(content)) {
		if rest, found := strings.CutPrefix(line, field); found {
			kilobytes, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("reading the memory of process %d: %w", pid, err)
			}
			return kilobytes << 10, nil
		}
	}
	return 0, fmt.Errorf("the system does not tell %s", strings.TrimSuffix(field, ":"))
}
