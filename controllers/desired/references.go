package desired

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/egress"
)

// References are the endpoints and push providers of a tenant, and what Autodiscover may ask, with the files that they
// need.
type References struct {
	Endpoints []config.Endpoint
	Providers []config.PushProvider
	// Autodiscover is nil where nothing may be asked.
	Autodiscover *config.Autodiscover
	// Tracing is nil where no traces are made.
	Tracing *config.Tracing
	// Mounts are values of users' Secrets and ConfigMaps that are mounted, never copied.
	Mounts []Mount
}

// A Mount is a value that the pod sees as a file: one in a Secret or a ConfigMap, or a token of its service account.
type Mount struct {
	// Path is the file, relative to the configuration's folder.
	Path string `json:"path"`
	// Secret or ConfigMap is the object's name.
	Secret    string `json:"secret,omitempty"`
	ConfigMap string `json:"configMap,omitempty"`
	Key       string `json:"key,omitempty"`
	// TokenAudience is whom a token is meant for.
	TokenAudience string `json:"tokenAudience,omitempty"`
}

// AddEndpoint adds an endpoint as its object describes it.
func (r *References) AddEndpoint(endpoint *v1alpha1.EwsEndpoint) error {
	entry, limits := config.Endpoint{Name: endpoint.Name, URL: string(endpoint.Spec.URL)}, orZero(endpoint.Spec.Limits)
	entry.TimeoutSeconds, entry.MaxConcurrentRequests = limits.TimeoutSeconds, limits.MaxConcurrentRequests
	entry.AuthenticationMethods = authenticationMethods(endpoint.Spec.AuthenticationMethods)
	entry.MinTLSVersion = config.TLSVersion(endpoint.Spec.MinTLSVersion)
	entry.ServerVersion = config.ServerVersion(endpoint.Spec.ServerVersion)
	entry.UserAgent = endpoint.Spec.UserAgent
	if gateway := endpoint.Spec.SecureEmailGateway; gateway != nil {
		entry.SecureEmailGateway = &config.SecureEmailGateway{
			DeviceIDHeader: string(gateway.DeviceIDHeader), DevicesHeader: string(gateway.DevicesHeader),
		}
	}
	pinned := orZero(endpoint.Spec.Pinning.Pinned)
	if endpoint.Spec.Pinning.TrustOnFirstUse != nil {
		pinned.SHA256 = endpoint.Status.Trusted
	}
	var err error
	if entry.Pinning.SHA256, err = fingerprints(endpoint.Name, pinned.SHA256); err != nil {
		return err
	}
	if entry.Pinning.PublicKeySHA256, err = fingerprints(endpoint.Name, pinned.PublicKeySHA256); err != nil {
		return err
	}
	if bundle := endpoint.Spec.Pinning.CertificateAuthority; bundle != nil {
		entry.Pinning.CertificateAuthority = true
		r.Mounts = append(r.Mounts, bundleMount(endpointFile(endpoint.Name), *bundle))
	}
	r.Endpoints = append(r.Endpoints, entry)
	return nil
}

// fingerprints are an endpoint's, in the form that the runtime takes.
func fingerprints(endpoint string, texts []v1alpha1.Fingerprint) ([]string, error) {
	var parsed []string
	for _, text := range texts {
		fingerprint, err := egress.ParseFingerprint(string(text))
		if err != nil {
			return nil, fmt.Errorf("a fingerprint of EwsEndpoint %s: %w", endpoint, err)
		}
		parsed = append(parsed, fingerprint)
	}
	return parsed, nil
}

// AddAutodiscover adds what the tenant's Autodiscover may ask; nil is nothing.
func (r *References) AddAutodiscover(autodiscover *v1alpha1.TenantAutodiscover) {
	if autodiscover == nil {
		return
	}
	r.Autodiscover = &config.Autodiscover{
		AuthenticationMethods: authenticationMethods(autodiscover.AuthenticationMethods),
		CacheSeconds:          autodiscover.CacheSeconds,
	}
	for _, domain := range autodiscover.Domains {
		r.Autodiscover.Domains = append(r.Autodiscover.Domains, string(domain))
	}
	if bundle := autodiscover.CABundle; bundle != nil {
		r.Autodiscover.CABundle = true
		r.Mounts = append(r.Mounts, bundleMount(path.Join(config.AutodiscoverFolder, config.CABundleFile), *bundle))
	}
}

// AddTracing adds where the tenant's traces go; nil is nowhere.
func (r *References) AddTracing(tracing *v1alpha1.TenantTracing) {
	if tracing == nil {
		return
	}
	r.Tracing = &config.Tracing{Endpoint: string(tracing.Endpoint), SamplePerMille: tracing.SamplePerMille}
	if bundle := tracing.CABundle; bundle != nil {
		r.Tracing.CABundle = true
		r.Mounts = append(r.Mounts, bundleMount(path.Join(config.TracingFolder, config.CABundleFile), *bundle))
	}
}

// WithdrawClashes takes away the endpoints that have their address in common with another, and returns their names,
// sorted, a list for each address. The runtime refuses them: a device that names the address could mean any of them.
func (r *References) WithdrawClashes() [][]string {
	r.Sort()
	named := map[string][]string{}
	for _, entry := range r.Endpoints {
		address := config.EndpointAddress(entry.URL)
		named[address] = append(named[address], entry.Name)
	}
	var clashes [][]string
	for _, address := range slices.Sorted(maps.Keys(named)) {
		names := named[address]
		if len(names) == 1 {
			continue
		}
		clashes = append(clashes, names)
		for _, name := range names {
			r.Endpoints = slices.DeleteFunc(r.Endpoints, func(e config.Endpoint) bool { return e.Name == name })
			folder := path.Join(config.EndpointsFolder, name)
			r.Mounts = slices.DeleteFunc(r.Mounts, func(m Mount) bool { return path.Dir(m.Path) == folder })
		}
	}
	return clashes
}

// CarryEndpoints adds the endpoints that were rendered last and are not here, neither by name nor by address.
func (r *References) CarryEndpoints(last References) {
	for _, entry := range last.Endpoints {
		address := config.EndpointAddress(entry.URL)
		isTaken := func(e config.Endpoint) bool {
			return e.Name == entry.Name || config.EndpointAddress(e.URL) == address
		}
		if !slices.ContainsFunc(r.Endpoints, isTaken) {
			r.Endpoints = append(r.Endpoints, entry)
			r.carryMounts(last, path.Join(config.EndpointsFolder, entry.Name))
		}
	}
}

// CarryProviders adds the push providers that were rendered last and are not here.
func (r *References) CarryProviders(last References) {
	for _, entry := range last.Providers {
		if !slices.ContainsFunc(r.Providers, func(p config.PushProvider) bool { return p.Name == entry.Name }) {
			r.Providers = append(r.Providers, entry)
			r.carryMounts(last, path.Join(config.PushFolder, entry.Name))
		}
	}
}

// CarryAutodiscover adds what Autodiscover was last allowed to ask, unless something is here.
func (r *References) CarryAutodiscover(last References) {
	if r.Autodiscover == nil && last.Autodiscover != nil {
		r.Autodiscover = last.Autodiscover
		r.carryMounts(last, config.AutodiscoverFolder)
	}
}

// CarryTracing adds where traces last went, unless something is here.
func (r *References) CarryTracing(last References) {
	if r.Tracing == nil && last.Tracing != nil {
		r.Tracing = last.Tracing
		r.carryMounts(last, config.TracingFolder)
	}
}

// Sort brings everything into the order of names, so that nothing is rendered anew because of where it came from.
func (r *References) Sort() {
	slices.SortFunc(r.Endpoints, func(a, b config.Endpoint) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(r.Providers, func(a, b config.PushProvider) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(r.Mounts, func(a, b Mount) int { return strings.Compare(a.Path, b.Path) })
}

func (r *References) carryMounts(last References, folder string) {
	for _, mount := range last.Mounts {
		if path.Dir(mount.Path) == folder {
			r.Mounts = append(r.Mounts, mount)
		}
	}
}

// mountsFile is the key in the ConfigMap under which the operator finds again what it last mounted. The pod does not
// see it.
const mountsFile = "mounts.yaml"

// LastRendered reads the references out of the data of the ConfigMap that was rendered last.
func LastRendered(data map[string]string) (References, error) {
	var last config.Config
	if err := yaml.Unmarshal([]byte(data[config.FileName]), &last); err != nil {
		return References{}, fmt.Errorf("reading what was last rendered into %s: %w", config.FileName, err)
	}
	references := References{Endpoints: last.Endpoints, Providers: last.PushProviders, Autodiscover: last.Autodiscover, Tracing: last.Tracing}
	if err := yaml.Unmarshal([]byte(data[mountsFile]), &references.Mounts); err != nil {
		return References{}, fmt.Errorf("reading what was last rendered into %s: %w", mountsFile, err)
	}
	return references, nil
}

func endpointFile(name string) string {
	return path.Join(config.EndpointsFolder, name, config.CABundleFile)
}

func providerFile(name, file string) string { return path.Join(config.PushFolder, name, file) }

func secretMount(file string, ref v1alpha1.SecretKeyReference) Mount {
	return Mount{Path: file, Secret: string(ref.Name), Key: string(ref.Key)}
}

func bundleMount(file string, bundle v1alpha1.CertificateBundle) Mount {
	if bundle.Secret != nil {
		return secretMount(file, *bundle.Secret)
	}
	if bundle.ConfigMap == nil { // it names nothing, which is judged elsewhere
		return Mount{Path: file}
	}
	return Mount{Path: file, ConfigMap: string(bundle.ConfigMap.Name), Key: string(bundle.ConfigMap.Key)}
}

func authenticationMethods(methods []v1alpha1.AuthenticationMethod) []config.AuthenticationMethod {
	var names []config.AuthenticationMethod
	for _, method := range methods {
		names = append(names, config.AuthenticationMethod(method))
	}
	return names
}
