package onenode

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/ens-operator/ens-operator/hack/testenv"
)

// pluginFolders are where distributions put the CNI plugins.
var pluginFolders = []string{"/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"}

// packages are Debian's. iproute2 and nftables have the commands with which kube-proxy and we ourselves change the network.
var packages = []string{"containerd", "runc", "containernetworking-plugins", "nftables", "conntrack", "iproute2"}

// commands are what must be in PATH of all that.
var commands = []string{"containerd", "ctr", "runc", "nft", "conntrack", "ip"}

// installPackages installs what is missing.
func installPackages(ctx context.Context, progress io.Writer) error {
	err := testenv.Install(ctx, progress, func() bool { return missing() == "" }, packages...)
	if err != nil {
		return err
	}
	if name := missing(); name != "" {
		return fmt.Errorf("%s is not there, although its package is; the cluster needs it", name)
	}
	return nil
}

// missing is the first program that is not there; empty if all are.
func missing() string {
	for _, name := range commands {
		if _, err := exec.LookPath(name); err != nil {
			return name
		}
	}
	if pluginFolder() == "" {
		return "the CNI plugin bridge"
	}
	return ""
}

// pluginFolder is where the CNI plugins are; empty if they are nowhere.
func pluginFolder() string {
	for _, folder := range pluginFolders {
		if _, err := os.Stat(filepath.Join(folder, "bridge")); err == nil {
			return folder
		}
	}
	return ""
}
