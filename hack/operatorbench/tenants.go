package main

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
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/hack/samples"
)

const (
	// namespace has the operators' Lease.
	namespace = "default"
	// tenantsPerNamespace share an endpoint, providers and a certificate.
	tenantsPerNamespace = 50
	// domain is that of the tenants' host names.
	domain = "tenants.example.com"
	// appliers are how many requests of the administrator's are under way at once.
	appliers = 4
)

// key names the n-th tenant.
func key(n int) client.ObjectKey {
	return client.ObjectKey{Namespace: fmt.Sprintf("team-%d", n/tenantsPerNamespace), Name: fmt.Sprintf("tenant-%d", n)}
}

// crowd is a number of tenants as an administrator applies them: the samples, once for each namespace, and the sample
// tenant over and over.
type crowd struct {
	size   int
	shared []*unstructured.Unstructured
	tenant *unstructured.Unstructured
}

func newCrowd(size int) (*crowd, error) {
	objects, err := samples.Objects()
	if err != nil {
		return nil, err
	}
	c := &crowd{size: size}
	for _, object := range objects {
		switch object.GetKind() {
		case "EnsTenant":
			c.tenant = object
		case "EwsEndpoint": // nobody answers there, and the operator does not ask the Internet
			if err := unstructured.SetNestedField(object.Object, "https://127.0.0.1:1/EWS/Exchange.asmx", "spec", "url"); err != nil {
				return nil, err
			}
			c.shared = append(c.shared, object)
		case "Secret":
			if object.GetName() == "acme-server-certificate" {
				if err := certify(object); err != nil {
					return nil, err
				}
			}
			c.shared = append(c.shared, object)
		default:
			c.shared = append(c.shared, object)
		}
	}
	return c, nil
}

// certify puts a certificate for all tenants into a Secret.
func certify(object *unstructured.Unstructured) error {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	const life = 24 * time.Hour
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: domain}, DNSNames: []string{"*." + domain},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life),
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return err
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	return unstructured.SetNestedStringMap(object.Object, map[string]string{
		corev1.TLSCertKey:       string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})),
		corev1.TLSPrivateKeyKey: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})),
	}, "stringData")
}

// prepare makes the namespaces and what the tenants in them share.
func (c *crowd) prepare(ctx context.Context, clients client.Client) error {
	for n := 0; n < c.size; n += tenantsPerNamespace {
		name := key(n).Namespace
		if err := clients.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
			return fmt.Errorf("making namespace %s: %w", name, err)
		}
		for _, object := range c.shared {
			if err := applyTo(ctx, clients, object, client.ObjectKey{Namespace: name, Name: object.GetName()}); err != nil {
				return err
			}
		}
	}
	return nil
}

// apply applies all tenants.
func (c *crowd) apply(ctx context.Context, clients client.Client) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(appliers)
	for n := range c.size {
		group.Go(func() error {
			tenant := c.tenant.DeepCopy()
			if err := unstructured.SetNestedField(tenant.Object, key(n).Name+"."+domain, "spec", "hostname"); err != nil {
				return err
			}
			return applyTo(ctx, clients, tenant, key(n))
		})
	}
	return group.Wait()
}

func applyTo(ctx context.Context, clients client.Client, object *unstructured.Unstructured, key client.ObjectKey) error {
	object = object.DeepCopy()
	object.SetNamespace(key.Namespace)
	object.SetName(key.Name)
	err := clients.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), client.FieldOwner("kubectl"))
	if err != nil {
		return fmt.Errorf("applying %s %s: %w", object.GetKind(), key, err)
	}
	return nil
}

// waitProvisioned returns when all tenants say that everything but their pods, which nobody makes here, is in place.
func (c *crowd) waitProvisioned(ctx context.Context, clients client.WithWatch) error {
	events, err := clients.Watch(ctx, &v1alpha1.EnsTenantList{})
	if err != nil {
		return fmt.Errorf("watching the tenants: %w", err)
	}
	defer events.Stop()
	ready := map[client.ObjectKey]bool{}
	for len(ready) < c.size {
		select {
		case event, open := <-events.ResultChan():
			tenant, isTenant := event.Object.(*v1alpha1.EnsTenant)
			if !open || event.Type == watch.Error || !isTenant {
				return fmt.Errorf("the watch of the tenants has ended with %d of %d provisioned", len(ready), c.size)
			}
			if apimeta.IsStatusConditionTrue(tenant.Status.Conditions, v1alpha1.ConditionProvisioned) {
				ready[client.ObjectKeyFromObject(tenant)] = true
			}
		case <-ctx.Done():
			return fmt.Errorf("%d of %d tenants are provisioned: %w", len(ready), c.size, ctx.Err())
		}
	}
	return nil
}

// foreign makes Secrets that are none of the operator's business.
func foreign(ctx context.Context, clients client.Client, count, size int) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(appliers)
	for n := range count {
		group.Go(func() error {
			content := make([]byte, size)
			_, _ = rand.Read(content)
			secret := &corev1.Secret{
				ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("foreign-%d", n)},
				Data:       map[string][]byte{"content": content},
			}
			return clients.Create(ctx, secret)
		})
	}
	return group.Wait()
}

// spoil has somebody change a tenant's PodDisruptionBudget, and waits until the operator has repaired it.
func spoil(ctx context.Context, clients client.WithWatch, tenant client.ObjectKey) error {
	budget := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: tenant.Namespace, Name: tenant.Name}}
	events, err := clients.Watch(ctx, &policyv1.PodDisruptionBudgetList{}, client.InNamespace(tenant.Namespace))
	if err != nil {
		return fmt.Errorf("watching: %w", err)
	}
	defer events.Stop()
	spoilt := intstr.FromInt32(7)
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"maxUnavailable":%s}}`, spoilt.String()))
	if err := clients.Patch(ctx, budget, patch); err != nil {
		return fmt.Errorf("changing an object of %s: %w", tenant, err)
	}
	seen := false
	for {
		select {
		case event, open := <-events.ResultChan():
			found, isBudget := event.Object.(*policyv1.PodDisruptionBudget)
			if !open || !isBudget {
				return fmt.Errorf("the watch of %s has ended", tenant)
			}
			if found.Name != tenant.Name || found.Spec.MaxUnavailable == nil {
				continue
			}
			if *found.Spec.MaxUnavailable == spoilt {
				seen = true
			} else if seen {
				return nil
			}
		case <-ctx.Done():
			return fmt.Errorf("an object of %s was not repaired: %w", tenant, ctx.Err())
		}
	}
}
