package v1alpha1_test

import (
	"strings"
	"testing"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
)

func keeping(database api.TenantDatabase) *api.EnsTenant {
	return with(validTenant(), func(t *api.EnsTenant) { t.Spec.Database = &database })
}

func TestDatabaseRules(t *testing.T) {
	t.Parallel()
	checkRules(t, map[string]rule{
		"a database of its own":        {keeping(api.TenantDatabase{SecretName: "acme-db-app"}), ""},
		"pods that go elsewhere":       {keeping(api.TenantDatabase{SecretName: "own", RuntimeHost: "pooler.example.com"}), ""},
		"pods that go to another port": {keeping(api.TenantDatabase{SecretName: "own", RuntimeHost: "pooler", RuntimePort: 6432}), ""},
		"no Secret":                    {keeping(api.TenantDatabase{RuntimeHost: "pooler"}), "spec.database.secretName"},
		"a port of nowhere":            {keeping(api.TenantDatabase{SecretName: "own", RuntimePort: 6432}), "set both, or neither"},
		"a socket":                     {keeping(api.TenantDatabase{SecretName: "own", RuntimeHost: "/run/postgresql"}), "must be a host name"},
	})
}

func TestDataDoNotMoveByThemselves(t *testing.T) {
	t.Parallel()
	c, namespace := newClient(t)
	for name, change := range map[string]struct {
		from, to *api.TenantDatabase
		allowed  bool
	}{
		"to-a-database-of-its-own": {nil, &api.TenantDatabase{SecretName: "own"}, false},
		"to-the-shared-database":   {&api.TenantDatabase{SecretName: "own"}, nil, false},
		"to-another-secret":        {&api.TenantDatabase{SecretName: "own"}, &api.TenantDatabase{SecretName: "other"}, true},
	} {
		tenant := validTenant()
		tenant.Namespace, tenant.Name, tenant.Spec.Database = namespace, name, change.from
		if err := c.Create(t.Context(), tenant); err != nil {
			t.Fatal(err)
		}
		tenant.Spec.Database = change.to
		err := c.Update(t.Context(), tenant)
		if (err == nil) != change.allowed || err != nil && !strings.Contains(err.Error(), "docs/database.md") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
