package onenode

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// What the node's programs write outside of the folder, wherever they are told to work.
const (
	containerLogs = "/var/log/containers"
	pluginResults = "/var/lib/cni/results"
	deviceSocket  = "/var/lib/kubelet/device-plugins/kubelet.sock"
	// podNetwork is the name of the network in files/cni.conflist.
	podNetwork = "ens-cluster"
)

// removeTraces removes the files that are outside of the folder: the kubelet's links to the logs of containers, its socket, and
// what the network's plugins have noted of pods that were killed.
func (c *Cluster) removeTraces() error {
	failed := removeIfDead(deviceSocket)
	links, err := filepath.Glob(filepath.Join(containerLogs, "*"))
	failed = errors.Join(failed, err)
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, c.folder+"/") {
			failed = errors.Join(failed, removeIfThere(link))
		}
	}
	results, err := filepath.Glob(filepath.Join(pluginResults, podNetwork+"-*-eth0"))
	failed = errors.Join(failed, err)
	for _, result := range results {
		pod := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(result), podNetwork+"-"), "-eth0")
		loopback := filepath.Join(pluginResults, "cni-loopback-"+pod+"-lo")
		failed = errors.Join(failed, removeIfThere(loopback), removeIfThere(result))
	}
	return failed
}

// removeIfDead removes a socket at which nobody answers: another kubelet of the machine needs its own.
func removeIfDead(socket string) error {
	if connection, err := net.Dial("unix", socket); err == nil {
		return connection.Close()
	}
	return removeIfThere(socket)
}

func removeIfThere(file string) error {
	if err := os.Remove(file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
