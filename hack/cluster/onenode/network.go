package onenode

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

const (
	// nodeBridge has the node's address and no port.
	nodeBridge = "ens-node0"
	// podBridge has the pods, see files/cni.conflist.
	podBridge = "ens-pods0"
)

// kernelSettings are what the network needs, and what the kubelet and kube-proxy change by themselves (no value). All are
// put back by Down.
var kernelSettings = map[string]string{
	"net/ipv4/ip_forward":                "1",
	"net/bridge/bridge-nf-call-iptables": "1", // so that an answer from pod to pod finds its way back through the Service
	"net/ipv4/conf/all/route_localnet":   "",
	"vm/overcommit_memory":               "",
	"kernel/panic":                       "",
	"kernel/panic_on_oops":               "",
}

// startNetwork gives the node an address and lets pods talk to Services.
func (c *Cluster) startNetwork(ctx context.Context) error {
	if _, err := net.InterfaceByName(nodeBridge); err == nil {
		return fmt.Errorf("there is a network interface %s already: another cluster is up, which `go run ./hack/cluster down` with its folder ends", nodeBridge)
	}
	if _, err := os.Stat("/proc/sys/net/bridge"); err != nil {
		_ = run(ctx, "modprobe", "br_netfilter") // if it cannot be had, setting the value below says so
	}
	if err := c.changeKernel(); err != nil {
		return err
	}
	for _, arguments := range []string{
		"link add " + nodeBridge + " type bridge",
		"addr add " + HostAddress + "/32 dev " + nodeBridge,
		"link set " + nodeBridge + " up",
	} {
		if err := run(ctx, "ip", strings.Fields(arguments)...); err != nil {
			return err
		}
	}
	return nil
}

func kernelFile(name string) string { return filepath.Join("/proc/sys", name) }

// changeKernel notes the settings as they are and sets those of ours.
func (c *Cluster) changeKernel() error {
	before := map[string]string{}
	for name := range kernelSettings {
		if value, err := os.ReadFile(kernelFile(name)); err == nil { // not every kernel has all
			before[name] = strings.TrimSpace(string(value))
		}
	}
	noted, err := json.Marshal(before)
	if err != nil {
		return err
	}
	const private = 0o600
	if err := os.WriteFile(c.path("run", "kernel.json"), noted, private); err != nil {
		return err
	}
	for name, value := range kernelSettings {
		if value == "" || before[name] == value {
			continue
		}
		if err := os.WriteFile(kernelFile(name), []byte(value), private); err != nil {
			return fmt.Errorf("setting %s: %w", strings.ReplaceAll(name, "/", "."), err)
		}
	}
	return nil
}

// restoreKernel undoes changeKernel, and what the kubelet has changed.
func (c *Cluster) restoreKernel() error {
	noted, err := os.ReadFile(c.path("run", "kernel.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	before := map[string]string{}
	if err := json.Unmarshal(noted, &before); err != nil {
		return err
	}
	var failed error
	for name, value := range before {
		now, err := os.ReadFile(kernelFile(name))
		if err == nil && strings.TrimSpace(string(now)) != value {
			err = os.WriteFile(kernelFile(name), []byte(value), 0)
		}
		failed = errors.Join(failed, err)
	}
	return failed
}

// stopNetwork removes the bridges and what kube-proxy has written. What is not there needs no removal.
func stopNetwork(ctx context.Context) error {
	var failed error
	for _, name := range []string{podBridge, nodeBridge} {
		if _, err := net.InterfaceByName(name); err == nil {
			failed = errors.Join(failed, run(ctx, "ip", "link", "del", name))
		}
	}
	for _, family := range []string{"ip", "ip6"} {
		if run(ctx, "nft", "list", "table", family, "kube-proxy") == nil {
			failed = errors.Join(failed, run(ctx, "nft", "delete", "table", family, "kube-proxy"))
		}
	}
	return failed
}
