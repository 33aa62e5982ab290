package stage

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ens-operator/ens-operator/hack/meter"
)

// MiB is 2^20 bytes.
const MiB = 1 << 20

// Measure is what a pod's program takes.
type Measure struct {
	// Pod is the pod's name, Program the file that runs in it.
	Pod, Program string
	// Memory is what it holds for itself (RssAnon), in bytes.
	Memory int64
	// CPU is how much of one CPU it took.
	CPU float64
}

// MeasurePods measures our programs in the pods of some namespaces over a time. It sees only pods on this machine.
func (s *Stage) MeasurePods(ctx context.Context, over time.Duration, namespaces ...string) ([]Measure, error) {
	var measures []Measure
	var processes []int
	for _, namespace := range namespaces {
		pods := &corev1.PodList{}
		if err := s.Client.List(ctx, pods, client.InNamespace(namespace)); err != nil {
			return nil, err
		}
		for _, pod := range pods.Items {
			pid, program, err := Process(&pod)
			if err != nil {
				return nil, err
			}
			processes, measures = append(processes, pid), append(measures, Measure{Pod: pod.Name, Program: program})
		}
	}
	began, before := time.Now(), make([]time.Duration, len(processes))
	for i, pid := range processes {
		var err error
		if before[i], err = meter.CPU(pid); err != nil {
			return nil, err
		}
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(over):
	}
	for i, pid := range processes {
		used, err := meter.CPU(pid)
		if err != nil {
			return nil, err
		}
		if measures[i].Memory, err = meter.Memory(pid); err != nil {
			return nil, err
		}
		measures[i].CPU = float64(used-before[i]) / float64(time.Since(began))
	}
	return measures, nil
}

// Process finds the process of our program in a pod on this machine, by the control group that the kubelet has put it in.
func Process(pod *corev1.Pod) (pid int, program string, err error) {
	folders, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, "", err
	}
	for _, folder := range folders {
		groups, err := os.ReadFile(filepath.Join(folder, "cgroup"))
		if err != nil || !strings.Contains(string(groups), string(pod.UID)) {
			continue
		}
		name, err := os.Readlink(filepath.Join(folder, "exe"))
		if err != nil || !strings.HasPrefix(filepath.Base(name), "ens-") {
			continue // the one that holds the pod's namespaces
		}
		pid, err = strconv.Atoi(filepath.Base(folder))
		return pid, filepath.Base(name), err
	}
	return 0, "", fmt.Errorf("pod %s has no process of ours on this machine", pod.Name)
}

// Largest says the most memory that each program takes.
func Largest(measures []Measure) string {
	most := map[string]int64{}
	for _, m := range measures {
		most[m.Program] = max(most[m.Program], m.Memory)
	}
	var parts []string
	for _, program := range slices.Sorted(maps.Keys(most)) {
		parts = append(parts, fmt.Sprintf("%s at most %.1f MiB", program, float64(most[program])/MiB))
	}
	return strings.Join(parts, ", ")
}
