package main

import (
	"context"
	"path/filepath"
	"time"

	"github.com/ens-operator/ens-operator/hack/e2e/stage"
	"github.com/ens-operator/ens-operator/hack/testenv"
)

// install does what the README says: a namespace, a Secret with the database's connection string, and the chart.
func install(ctx context.Context, t *theatre) error {
	if err := t.clear(ctx); err != nil {
		return err
	}
	data, err := t.installData()
	if err != nil {
		return err
	}
	if _, err := t.Apply(ctx, "operator_namespace.yaml", data); err != nil {
		return err
	}
	began := time.Now()
	if err := t.upgradeChart(ctx, stage.Version); err != nil {
		return err
	}
	t.say("helm install --wait took %.1f s", time.Since(began).Seconds())
	if _, err := t.Helm(ctx, "test", release, "--namespace", operatorNamespace); err != nil {
		return err
	}
	t.say("helm test passed")
	return nil
}

// installData is what the manifests of the installation are filled with.
func (t *theatre) installData() (map[string]any, error) {
	ports, err := t.Outside.Ports()
	return map[string]any{"Namespace": operatorNamespace, "DatabaseURL": t.Outside.Database.URL, "Ports": ports}, err
}

// upgradeChart packages the chart as a version and installs it, or upgrades what is installed.
func (t *theatre) upgradeChart(ctx context.Context, version string, arguments ...string) error {
	root, err := testenv.RepositoryRoot()
	if err != nil {
		return err
	}
	_, err = t.Helm(ctx, "package", "--destination", t.Folder, "--version", version, "--app-version", version,
		filepath.Join(root, "charts", "ens-operator"))
	if err != nil {
		return err
	}
	data, err := t.installData()
	if err != nil {
		return err
	}
	values, err := t.WriteManifest("operator_values.yaml", data)
	if err != nil {
		return err
	}
	_, err = t.Helm(ctx, append([]string{"upgrade", "--install", release, filepath.Join(t.Folder, "ens-operator-"+version+".tgz"),
		"--namespace", operatorNamespace, "--values", values, "--wait", "--timeout=180s"}, arguments...)...)
	return err
}
