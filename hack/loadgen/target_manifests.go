package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"os"
	"strings"
	"text/template"

	"github.com/ens-operator/ens-operator/runtime/push/apns/apnstest"
)

// targetObjects is the name of the objects that lead a tenant to the simulated Exchange and Apple.
const targetObjects = "loadgen"

//go:embed target.yaml
var targetTemplate string

// writeManifests writes what an administrator applies. It holds a key, though one that opens nothing but the simulated Apple.
func (i *installation) writeManifests(key apnstest.Key) error {
	t := i.settings.target
	indent := func(text []byte) string {
		return "    " + strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", "\n    ")
	}
	manifests := template.Must(template.New("target").Funcs(template.FuncMap{"indent": indent}).Parse(targetTemplate))
	var content bytes.Buffer
	if err := manifests.Execute(&content, map[string]any{
		"Namespace": t.namespace, "Tenant": t.tenant, "Name": targetObjects, "File": t.manifests, "Topic": topic,
		"ExchangeURL": i.scene.exchange.URL(), "Fingerprint": i.scene.exchange.Fingerprint(),
		"APNsURL": i.scene.apns.URL(), "APNsCA": i.scene.apns.CertificatePEM(), "Key": key,
	}); err != nil {
		return err
	}
	if err := os.WriteFile(t.manifests, content.Bytes(), 0o600); err != nil {
		return fmt.Errorf("writing the manifests: %w", err)
	}
	say(i.progress, "Apply what leads the tenant here; it must be one that nobody uses:\n\n"+
		"  kubectl apply -f %s\n"+
		"  kubectl -n %s patch enstenant %s --type=merge -p '{\"spec\":{\"endpoints\":[\"%s\"],\"pushProviders\":[\"%s\"]}}'\n",
		t.manifests, t.namespace, t.tenant, targetObjects, targetObjects)
	return nil
}
