package onenode

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// downLimit bounds taking a cluster down, also when whoever does it was interrupted.
const downLimit = 2 * time.Minute

// Down takes the cluster away: its pods, processes, mounts, network namespaces, bridges, packet filter rules, control
// groups and files; the kernel's settings are as they were before. Nothing happens if there is no cluster in the folder.
func (c *Cluster) Down(ctx context.Context) error {
	if _, err := os.Stat(c.path("run")); errors.Is(err, os.ErrNotExist) {
		return os.RemoveAll(c.folder)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), downLimit)
	defer cancel()
	var failed error
	do := func(what string, err error) {
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", what, err))
		}
	}
	// Whoever would start pods again goes first.
	for _, name := range []string{"controller-manager", "scheduler", "kubelet"} {
		do(name, c.stop(ctx, name))
	}
	networks := c.removeContainers(ctx)
	for _, name := range []string{"proxy", "containerd", "apiserver", "etcd"} {
		do(name, c.stop(ctx, name))
	}
	for _, pid := range c.shims() {
		do("the shim of a container", c.end(ctx, pid))
	}
	do("mounts", c.unmount())
	for _, name := range networks {
		if _, err := os.Stat(filepath.Join("/run/netns", name)); err != nil {
			continue // its shim has removed it
		}
		do("network namespace", run(ctx, "ip", "netns", "del", name))
	}
	do("network", stopNetwork(ctx))
	do("control groups", removeControlGroups())
	do("kernel settings", c.restoreKernel())
	do("files elsewhere", c.removeTraces())
	if failed != nil {
		return failed // with the folder, by which it can be tried again
	}
	return os.RemoveAll(c.folder)
}

// removeContainers kills and removes all containers, and returns the names of their network namespaces. What fails here is
// left to the shims' end.
func (c *Cluster) removeContainers(ctx context.Context) []string {
	containers, err := c.ctrLines(ctx, "containers", "ls", "--quiet")
	if err != nil {
		return nil // there is no containerd any more
	}
	var networks []string
	for _, id := range containers {
		if name := c.networkOf(ctx, id); name != "" && !slices.Contains(networks, name) {
			networks = append(networks, name)
		}
		_ = c.ctr(ctx, "tasks", "kill", "--signal", "KILL", "--all", id)
	}
	for _, id := range containers {
		_ = c.ctr(ctx, "tasks", "rm", "--force", id)
		_ = c.ctr(ctx, "containers", "rm", id)
	}
	return networks
}

// networkOf is the name of a container's network namespace; empty if it has none with a name.
func (c *Cluster) networkOf(ctx context.Context, container string) string {
	output, err := exec.CommandContext(ctx, "ctr", c.ctrArguments([]string{"containers", "info", container})...).Output()
	var info struct {
		Spec struct {
			Linux struct {
				Namespaces []struct{ Type, Path string } `json:"namespaces"`
			} `json:"linux"`
		}
	}
	if err != nil || json.Unmarshal(output, &info) != nil {
		return ""
	}
	for _, namespace := range info.Spec.Linux.Namespaces {
		if namespace.Type == "network" && strings.Contains(namespace.Path, "/netns/") {
			return filepath.Base(namespace.Path)
		}
	}
	return ""
}

// unmount unmounts everything below the folder, the innermost first.
func (c *Cluster) unmount() error {
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	var points []string
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); strings.HasPrefix(fields[1], c.folder+"/") {
			points = append(points, fields[1])
		}
	}
	slices.Reverse(points)
	var failed error
	for _, point := range points {
		failed = errors.Join(failed, syscall.Unmount(point, syscall.MNT_DETACH))
	}
	return failed
}

// removeControlGroups removes those that the kubelet makes, in the one hierarchy of cgroup v2 or the several of v1.
func removeControlGroups() error {
	var roots []string
	for _, pattern := range []string{"/sys/fs/cgroup/kubepods", "/sys/fs/cgroup/*/kubepods"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		roots = append(roots, found...)
	}
	var failed error
	for _, root := range roots {
		if link, err := os.Lstat(filepath.Dir(root)); err != nil || link.Mode()&os.ModeSymlink != 0 {
			continue // cpu and cpuacct are links to one hierarchy
		}
		failed = errors.Join(failed, removeTree(root))
	}
	return failed
}

// removeTree removes a control group with those in it. A group whose processes have just ended stays busy for a moment.
func removeTree(root string) error {
	entries, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := removeTree(filepath.Join(root, entry.Name())); err != nil {
				return err
			}
		}
	}
	const tries = 20
	for range tries {
		if err = syscall.Rmdir(root); !errors.Is(err, syscall.EBUSY) {
			break
		}
		time.Sleep(poll)
	}
	if err != nil {
		return fmt.Errorf("removing %s: %w", root, err)
	}
	return nil
}
