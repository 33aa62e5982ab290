package controllers_test

import (
	certmanager "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
)

// certificateStories are about a tenant whose certificate comes from elsewhere than before.
func certificateStories() map[string]crashStory {
	create := func(c *crashStage) {
		c.certified = true
		c.applySamples(nil)
		c.standIn()
	}
	serve := func(tls api.TenantTLS) func(*crashStage) {
		return func(c *crashStage) {
			change(c.stage, c.acme(), "acme", func(o *api.EnsTenant) { o.Spec.TLS = tls })
		}
	}
	const present, next = "acme-server-certificate", "acme-next-certificate"
	asked := serve(api.TenantTLS{CertManager: &api.CertManagerTLS{IssuerRef: api.IssuerReference{Name: "company"}}})
	announce := func(c *crashStage) {
		if !c.there(&corev1.Secret{}, next) {
			c.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: next}, Type: corev1.SecretTypeTLS,
				Data: issue(c.t, c.clock.Now().AddDate(1, 0, 0), c.hostname())})
		}
		serve(api.TenantTLS{SecretName: present, NextSecretName: next})(c)
	}
	back := serve(api.TenantTLS{SecretName: present})
	withdrawn := func(c *crashStage) {
		back(c)
		c.remove(&corev1.Secret{}, "acme-tls") // else cert-manager would have issued it already
	}
	steps := func(all ...func(*crashStage)) []func(*crashStage) { return all }
	return map[string]crashStory{
		"cert-manager is asked for the certificate": {
			before: steps(create), change: asked, again: steps(withdrawn), around: (*crashStage).issueCertificates, check: servesFrom("acme-tls", 1)},
		"cert-manager is not asked any more": {
			before: steps(create, asked), change: back, again: steps(asked), around: (*crashStage).issueCertificates, check: servesFrom(present, 0)},
		"the next certificate is announced": {
			before: steps(create), change: announce, again: steps(back), check: servesFrom(present, 0)},
		"the next certificate is served": {
			before: steps(create, announce), change: serve(api.TenantTLS{SecretName: next}), again: steps(announce), check: servesFrom(next, 0)},
	}
}

// certificates are what cert-manager is asked for.
func (c *crashStage) certificates() []certmanager.Certificate {
	c.t.Helper()
	var list certmanager.CertificateList
	if err := c.clients.List(c.t.Context(), &list, client.InNamespace(c.namespace)); err != nil {
		c.t.Fatal(err)
	}
	return list.Items
}

// issueCertificates does so as cert-manager would, and wakes the tenants that wait for it.
func (c *crashStage) issueCertificates() (woken []types.NamespacedName) {
	c.t.Helper()
	for _, request := range c.certificates() {
		if c.there(&corev1.Secret{}, request.Spec.SecretName) {
			continue
		}
		c.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: request.Spec.SecretName}, Type: corev1.SecretTypeTLS,
			Data: issue(c.t, c.clock.Now().AddDate(1, 0, 0), request.Spec.DNSNames...)})
		woken = append(woken, client.ObjectKeyFromObject(c.acme()))
	}
	return woken
}

// servesFrom is for a tenant that works with the certificate in a Secret, and so many requests to cert-manager.
func servesFrom(secret string, requests int) func(c *crashStage, before, crashed, after keptValues) {
	return func(c *crashStage, before, crashed, after keptValues) {
		c.t.Helper()
		stillItsOwn(c, before, crashed, after)
		if got := len(c.certificates()); got != requests {
			c.t.Errorf("cert-manager is asked for %d certificates, want %d", got, requests)
		}
		data := fetch(c.stage, &corev1.Secret{}, secret).Data
		if files := c.mounted(); string(files["tls/tls.crt"]) != string(data["tls.crt"]) {
			c.t.Errorf("pods do not see the certificate in Secret %s", secret)
		}
	}
}
