package onenode

import "context"

// startControlPlane starts etcd, the API server, the controller manager and the scheduler. All listen on loopback but the
// API server, which pods reach as well.
func (c *Cluster) startControlPlane(ctx context.Context) error {
	err := c.start(ctx, "etcd", c.programs["etcd"],
		"--name=etcd", "--data-dir="+c.path("etcd"), "--unsafe-no-fsync",
		"--listen-client-urls="+etcdURL, "--advertise-client-urls="+etcdURL,
		"--listen-peer-urls="+etcdPeer, "--initial-advertise-peer-urls="+etcdPeer, "--initial-cluster=etcd="+etcdPeer)
	if err != nil {
		return err
	}
	if err := c.start(ctx, "apiserver", c.programs["kube-apiserver"], c.apiServerFlags()...); err != nil {
		return err
	}
	if err := await(ctx, c.apiReady); err != nil {
		return err
	}
	kubeconfigs := func(name string) []string {
		file := c.path("conf", name+".kubeconfig")
		return []string{"--kubeconfig=" + file, "--authentication-kubeconfig=" + file, "--authorization-kubeconfig=" + file,
			"--bind-address=127.0.0.1", "--leader-elect=false"}
	}
	err = c.start(ctx, "controller-manager", c.programs["kube-controller-manager"], append(kubeconfigs("controller-manager"),
		"--use-service-account-credentials", "--root-ca-file="+c.path("pki", "ca.crt"),
		"--service-account-private-key-file="+c.path("pki", "tokens.key"),
		"--cluster-signing-cert-file="+c.path("pki", "ca.crt"), "--cluster-signing-key-file="+c.path("pki", "ca.key"),
		"--allocate-node-cidrs=false", "--service-cluster-ip-range="+serviceRange)...)
	if err != nil {
		return err
	}
	return c.start(ctx, "scheduler", c.programs["kube-scheduler"], kubeconfigs("scheduler")...)
}

func (c *Cluster) apiServerFlags() []string {
	file := func(name string) string { return c.path("pki", name) }
	return []string{
		"--etcd-servers=" + etcdURL,
		"--advertise-address=" + HostAddress,
		"--secure-port=6443",
		"--service-cluster-ip-range=" + serviceRange,
		"--kubelet-preferred-address-types=InternalIP",
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
		"--client-ca-file=" + file("ca.crt"),
		"--tls-cert-file=" + file("apiserver.crt"),
		"--tls-private-key-file=" + file("apiserver.key"),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + file("tokens.pub"),
		"--service-account-signing-key-file=" + file("tokens.key"),
		"--kubelet-certificate-authority=" + file("ca.crt"),
		"--kubelet-client-certificate=" + file("kubelet-client.crt"),
		"--kubelet-client-key=" + file("kubelet-client.key"),
		"--requestheader-client-ca-file=" + file("front-ca.crt"),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + file("front-client.crt"),
		"--proxy-client-key-file=" + file("front-client.key"),
	}
}
