package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// confinement holds the runtime to less than the machine has, as a pod's limits do: its CPU by a control group of its own, its
// memory by what Go is told of the limit. A nil one holds nothing back.
type confinement struct {
	// folder is the control group's.
	folder string
}

const (
	// memoryLimit is that of the Deployment, in effect unless set, and goMemoryLimit what the operator tells Go of it
	// (controllers/desired).
	memoryLimit   = 512 << 20
	goMemoryLimit = memoryLimit / 100 * 90
	// quotaPeriod is what Kubernetes has the kernel count in.
	quotaPeriod = 100 * time.Millisecond
	groupRoot   = "/sys/fs/cgroup"
)

// errNoQuota says that this machine lets nobody hold a program to a quota.
var errNoQuota = errors.New("the runtime cannot be held to a quota of CPU here: this needs root and a writable control group " +
	"with the controller cpu (version 2, or version 1 at /sys/fs/cgroup/cpu)")

// confine makes a group that may use so many cores. With 0 it makes none.
func confine(cores float64) (*confinement, error) {
	if cores <= 0 {
		return nil, nil //nolint:nilnil // nobody is held
	}
	content, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, errors.Join(errNoQuota, err)
	}
	parent, version := controlGroup(groupRoot, string(content))
	folder := filepath.Join(parent, fmt.Sprintf("ens-loadgen-%d", os.Getpid()))
	if err := os.Mkdir(folder, 0o755); err != nil { //nolint:gosec // as all of its kind
		return nil, errors.Join(errNoQuota, err)
	}
	c := &confinement{folder: folder}
	for file, value := range quotaFiles(version, cores) {
		if err := os.WriteFile(filepath.Join(folder, file), []byte(value), 0o600); err != nil {
			c.remove()
			return nil, errors.Join(errNoQuota, err)
		}
	}
	return c, nil
}

// controlGroup is the folder below which a group with a quota can be made, and the version of its interface, as
// /proc/self/cgroup tells them. Version 1 has a tree for the controller, and a group may have processes and groups in it. In
// version 2 it may not, so that the new one has its place beside ours, unless ours is the root.
func controlGroup(root, memberships string) (folder string, version int) {
	for line := range strings.Lines(memberships) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3) //nolint:mnd // hierarchy, controllers, path
		if len(fields) < 3 {
			continue
		}
		switch controllers := strings.Split(fields[1], ","); {
		case slices.Contains(controllers, "cpu"):
			return filepath.Join(root, "cpu", fields[2]), 1
		case fields[0] == "0" && fields[1] == "":
			folder, version = filepath.Join(root, filepath.Dir(fields[2])), 2 //nolint:mnd // the newer one
		}
	}
	return folder, version
}

// quotaFiles are the files of a group that give it so many cores.
func quotaFiles(version int, cores float64) map[string]string {
	period := quotaPeriod.Microseconds()
	quota := strconv.FormatInt(int64(cores*float64(period)), 10)
	if version == 1 {
		return map[string]string{"cpu.cfs_period_us": strconv.FormatInt(period, 10), "cpu.cfs_quota_us": quota}
	}
	return map[string]string{"cpu.max": quota + " " + strconv.FormatInt(period, 10)}
}

// wrap is a command that runs a program as a member of the group from its first instruction on: Go looks at the quota when it
// starts.
func (c *confinement) wrap(path string, arguments []string) (wrapped string, with []string) {
	if c == nil {
		return path, arguments
	}
	const script = `echo $$ > "$0" && exec "$@"`
	members := filepath.Join(c.folder, "cgroup.procs")
	limit := "GOMEMLIMIT=" + strconv.Itoa(goMemoryLimit)
	return "/bin/sh", append([]string{"-c", script, members, "/usr/bin/env", limit, path}, arguments...)
}

// throttled is for how long the group had to wait because its quota was used up.
func (c *confinement) throttled() time.Duration {
	content, err := os.ReadFile(filepath.Join(c.folder, "cpu.stat"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(content)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		number, _ := strconv.ParseInt(value, 10, 64) // the kernel writes numbers
		switch name {
		case "throttled_time": // version 1
			return time.Duration(number)
		case "throttled_usec":
			return time.Duration(number) * time.Microsecond
		}
	}
	return 0
}

// remove removes the group once the program has ended.
func (c *confinement) remove() {
	if c != nil {
		_ = os.Remove(c.folder) // there is no more that could be done
	}
}
