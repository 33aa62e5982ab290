package tenant

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/push/standing"
)

// identityOf is a digest of everything that a push provider was made from, but for certificate authorities and a token that
// is read anew each time.
func identityOf(provider config.PushProvider, loaded *config.Loaded) [sha256.Size]byte {
	digest := sha256.New()
	write := func(part []byte) {
		sum := sha256.Sum256(part)
		_, _ = digest.Write(sum[:])
	}
	settings, _ := json.Marshal(provider) // a plain struct that was read from the same form
	write(settings)
	for _, name := range slices.Sorted(maps.Keys(loaded.PushCredentials)) {
		if strings.HasPrefix(name, config.PushCredential(provider.Name, "")) {
			write([]byte(name))
			credential := loaded.PushCredentials[name]
			write(credential.Reveal())
		}
	}
	return [sha256.Size]byte(digest.Sum(nil))
}

// Inherit keeps what the tenant before knows of push providers that are still the same. One whose credential was replaced is
// as if it had not been tried. It must be called before the tenant is used.
func (t *Tenant) Inherit(old *Tenant) {
	for name, provider := range t.providers {
		if before := old.providers[name]; before != nil && before.identity == provider.identity {
			provider.Breaker.Inherit(before.Breaker)
		}
	}
}

// Standing is how the tenant's push providers fare, by their names.
func (t *Tenant) Standing() []standing.Report {
	var reports []standing.Report
	for _, provider := range t.providers {
		reports = append(reports, provider.Breaker.Standing())
	}
	slices.SortFunc(reports, func(a, b standing.Report) int { return cmp.Compare(a.Name, b.Name) })
	return reports
}
