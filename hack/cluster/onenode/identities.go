package onenode

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// administrator is the identity of whoever uses the cluster.
const administrator = "admin"

// validity is longer than anybody leaves such a cluster running.
const validity = 30 * 24 * time.Hour

// An identity is a certificate of one of the authorities.
type identity struct {
	name, authority string
	user, group     string
	names           []string
	addresses       []string
	hasKubeconfig   bool
}

// identities are those of a cluster, by the files that they are in.
var identities = []identity{
	{
		name: "apiserver", authority: "ca", user: "kube-apiserver",
		names:     []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost"},
		addresses: []string{"127.0.0.1", serviceAddress, HostAddress},
	},
	{name: "kubelet-client", authority: "ca", user: "kube-apiserver-kubelet-client", group: "system:masters"},
	{name: "front-client", authority: "front-ca", user: "front-proxy-client"},
	{name: administrator, authority: "ca", user: "admin", group: "system:masters", hasKubeconfig: true},
	{name: "controller-manager", authority: "ca", user: "system:kube-controller-manager", hasKubeconfig: true},
	{name: "scheduler", authority: "ca", user: "system:kube-scheduler", hasKubeconfig: true},
	{name: "proxy", authority: "ca", user: "system:kube-proxy", hasKubeconfig: true},
	{
		name: "kubelet", authority: "ca", user: "system:node:" + nodeName, group: "system:nodes", hasKubeconfig: true,
		names: []string{nodeName}, addresses: []string{HostAddress},
	},
}

// pair is a certificate with its key.
type pair struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// writeIdentities makes the authorities, the certificates, the kubeconfigs and the key of the service accounts' tokens.
func (c *Cluster) writeIdentities(context.Context) error {
	for _, folder := range []string{"pki", "conf", "run", "log"} {
		const private = 0o700
		if err := os.MkdirAll(c.path(folder), private); err != nil {
			return err
		}
	}
	authorities := map[string]pair{}
	for _, name := range []string{"ca", "front-ca"} {
		authority, err := c.issue(name, &x509.Certificate{
			Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		}, pair{})
		if err != nil {
			return err
		}
		authorities[name] = authority
	}
	for _, id := range identities {
		if _, err := c.issue(id.name, id.template(), authorities[id.authority]); err != nil {
			return err
		}
		if id.hasKubeconfig {
			if err := c.writeKubeconfig(id.name); err != nil {
				return err
			}
		}
	}
	return c.writeTokenKey()
}

func (id identity) template() *x509.Certificate {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: id.user},
		DNSNames:    id.names,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if id.group != "" {
		template.Subject.Organization = []string{id.group}
	}
	for _, address := range id.addresses {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(address))
	}
	return template
}

// issue makes a key and a certificate, signed by the authority, or by itself if there is none, and writes both.
func (c *Cluster) issue(name string, template *x509.Certificate, authority pair) (pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair{}, err
	}
	now := time.Now()
	template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(now.UnixNano()), now.Add(-time.Hour), now.Add(validity)
	if authority.key == nil {
		authority = pair{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, authority.certificate, key.Public(), authority.key)
	if err != nil {
		return pair{}, fmt.Errorf("making the certificate %s: %w", name, err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return pair{}, err
	}
	if err := c.writePEM(name+".crt", "CERTIFICATE", der); err != nil {
		return pair{}, err
	}
	return pair{certificate, key}, c.writeKey(name+".key", key)
}

// writeTokenKey makes the key that signs service accounts' tokens.
func (c *Cluster) writeTokenKey() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	if err := c.writePEM("tokens.pub", "PUBLIC KEY", public); err != nil {
		return err
	}
	return c.writeKey("tokens.key", key)
}

func (c *Cluster) writeKey(file string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return c.writePEM(file, "EC PRIVATE KEY", der)
}

func (c *Cluster) writePEM(file, kind string, der []byte) error {
	const private = 0o600
	return os.WriteFile(c.path("pki", file), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), private)
}

// writeKubeconfig writes the access of an identity, with its certificate in it.
func (c *Cluster) writeKubeconfig(name string) error {
	content := map[string][]byte{}
	for _, file := range []string{"ca.crt", name + ".crt", name + ".key"} {
		text, err := os.ReadFile(c.path("pki", file))
		if err != nil {
			return err
		}
		content[file] = text
	}
	config := api.NewConfig()
	config.Clusters["cluster"] = &api.Cluster{Server: serverURL, CertificateAuthorityData: content["ca.crt"]}
	config.AuthInfos[name] = &api.AuthInfo{ClientCertificateData: content[name+".crt"], ClientKeyData: content[name+".key"]}
	config.Contexts["cluster"] = &api.Context{Cluster: "cluster", AuthInfo: name}
	config.CurrentContext = "cluster"
	return clientcmd.WriteToFile(*config, c.path("conf", name+".kubeconfig"))
}
