package onenode

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"
)

//go:embed files
var files embed.FS

// settings are what the files of a node are filled with.
type settings struct {
	Folder, Plugins, PodBridge, PodRange, DNS, Node, PauseImage, NamesImage string
}

func (c *Cluster) settings() settings {
	return settings{
		Folder: c.folder, Plugins: pluginFolder(), PodBridge: podBridge, PodRange: podRange, DNS: dnsAddress, Node: nodeName,
		PauseImage: pauseImage, NamesImage: namesImage,
	}
}

// fill returns one of the embedded files with the cluster's settings in it.
func (c *Cluster) fill(name string) ([]byte, error) {
	parsed, err := template.ParseFS(files, "files/"+name)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	err = parsed.Execute(&text, c.settings())
	return text.Bytes(), err
}

// write puts one of the embedded files, with the settings in it, somewhere into the cluster's folder.
func (c *Cluster) write(name string, path ...string) error {
	text, err := c.fill(name)
	if err != nil {
		return err
	}
	file := c.path(path...)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o644)
}

// startContainerd starts containerd and imports the images that the cluster itself needs.
func (c *Cluster) startContainerd(ctx context.Context) error {
	if err := c.write("cni.conflist", "cni", "10-bridge.conflist"); err != nil {
		return err
	}
	if err := c.write("containerd.toml", "conf", "containerd.toml"); err != nil {
		return err
	}
	program, err := exec.LookPath("containerd")
	if err != nil {
		return err
	}
	if err := c.start(ctx, "containerd", program, "--config", c.path("conf", "containerd.toml")); err != nil {
		return err
	}
	if err := await(ctx, func(ctx context.Context) error { return c.ctr(ctx, "version") }); err != nil {
		return err
	}
	return c.importOwnImages(ctx)
}

func (c *Cluster) socket() string { return c.path("run", "containerd.sock") }

// ctr runs containerd's own command against the cluster's.
func (c *Cluster) ctr(ctx context.Context, arguments ...string) error {
	return run(ctx, "ctr", c.ctrArguments(arguments)...)
}

func (c *Cluster) ctrArguments(arguments []string) []string {
	return append([]string{"--address", c.socket(), "--namespace", "k8s.io"}, arguments...)
}

// ctrLines is what the command prints.
func (c *Cluster) ctrLines(ctx context.Context, arguments ...string) ([]string, error) {
	output, err := exec.CommandContext(ctx, "ctr", c.ctrArguments(arguments)...).Output()
	if err != nil {
		return nil, fmt.Errorf("ctr %s: %w", strings.Join(arguments, " "), err)
	}
	return strings.Fields(string(output)), nil
}

// startNode starts the kubelet and kube-proxy and waits until the node is ready.
func (c *Cluster) startNode(ctx context.Context) error {
	// Pods ask the cluster's names only; those with the node's own resolver get one that knows nothing.
	if err := os.WriteFile(c.path("conf", "resolv.conf"), []byte("nameserver 127.0.0.1\n"), 0o644); err != nil {
		return err
	}
	for _, name := range []string{"kubelet.yaml", "proxy.yaml"} {
		if err := c.write(name, "conf", name); err != nil {
			return err
		}
	}
	err := c.start(ctx, "kubelet", c.programs["kubelet"],
		"--config="+c.path("conf", "kubelet.yaml"), "--kubeconfig="+c.path("conf", "kubelet.kubeconfig"),
		"--root-dir="+c.path("kubelet"), "--cert-dir="+c.path("kubelet", "pki"),
		"--hostname-override="+nodeName, "--node-ip="+HostAddress)
	if err != nil {
		return err
	}
	if err := c.apply(ctx, "proxy_role.yaml"); err != nil {
		return err
	}
	if err := c.start(ctx, "proxy", c.programs["kube-proxy"], "--config="+c.path("conf", "proxy.yaml")); err != nil {
		return err
	}
	return await(ctx, c.nodeReady)
}

// startNames starts CoreDNS and waits until it serves.
func (c *Cluster) startNames(ctx context.Context) error {
	if err := c.apply(ctx, "coredns.yaml"); err != nil {
		return err
	}
	return run(ctx, c.Kubectl(), "--kubeconfig="+c.Kubeconfig(), "--namespace=kube-system", "rollout", "status",
		"deployment/coredns", "--timeout="+startLimit.String())
}

// apply applies one of the embedded manifests.
func (c *Cluster) apply(ctx context.Context, name string) error {
	if err := c.write(name, "conf", name); err != nil {
		return err
	}
	return run(ctx, c.Kubectl(), "--kubeconfig="+c.Kubeconfig(), "apply", "--server-side", "-f", c.path("conf", name))
}
