package credential_test

import (
	"testing"

	"github.com/ens-operator/ens-operator/runtime/credential"
)

// BenchmarkHotCredential is what is done for the credential of a new mail: its webhook is found ours, and what it brings opened.
// make bench-hot holds what it allocates.
func BenchmarkHotCredential(b *testing.B) {
	ring := keyring(b, tenant, keys(1))
	sealed := seal(b, ring, 7, 8, basic("alice@example.com", "correct horse battery"))
	rawQuery, resting := query(b, sealed), credential.Resting{Key: sealed.Key}
	b.ReportAllocs()
	for b.Loop() {
		hook, err := ring.ParseWebhook(rawQuery)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := ring.OpenWebhook(hook, resting); err != nil {
			b.Fatal(err)
		}
	}
}
