package credential_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

const tenant = "ens_mail_acme_465d18d886"

// userKey is a user's key that is the same in every process, so that what a fuzzer finds can be replayed.
var userKey = sync.OnceValue(func() *rsa.PrivateKey {
	text, err := os.ReadFile("testdata/user-key.pem")
	if err != nil {
		panic(err)
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		panic(err)
	}
	return key.(*rsa.PrivateKey)
})

// encrypt is what a device does with its credential.
func encrypt(t testing.TB, plain []byte) string {
	t.Helper()
	//nolint:staticcheck // SA1019: PKCS#1 v1.5 is the original's contract (K-07)
	block, err := rsa.EncryptPKCS1v15(rand.Reader, &userKey().PublicKey, plain)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(block)
}

// key is the n-th of a row of different keys.
func key(n byte) secret.Value { return secret.New(bytes.Repeat([]byte{n}, config.KeySize)) }

// keys have these versions of the KEK, and of the webhook key the same ones. Equal versions are equal keys.
func keys(versions ...int) config.Keys {
	k := config.Keys{KEKs: map[int]secret.Value{}, Webhooks: map[int]secret.Value{}}
	for _, version := range versions {
		k.KEKs[version], k.Webhooks[version] = key(byte(version)), key(byte(100+version))
	}
	return k
}

func keyring(t testing.TB, tenant string, k config.Keys) *credential.Keyring {
	t.Helper()
	ring, err := credential.NewKeyring(tenant, k)
	if err != nil {
		t.Fatal(err)
	}
	if err := ring.SealWith(config.Newest(k.KEKs), config.Newest(k.Webhooks)); err != nil {
		t.Fatal(err)
	}
	return ring
}

func TestAKeyringSealsOnlyWithKeysThatWereDecided(t *testing.T) {
	t.Parallel()
	ring, err := credential.NewKeyring(tenant, keys(1, 2))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ring.NewKeyPair(); !errors.Is(err, credential.ErrUndecided) {
		t.Errorf("a key pair before the decision: %v", err)
	}
	if _, err := ring.SealIntoURL(base, 7, 8, basic("a", "b"), secret.Value{}); !errors.Is(err, credential.ErrUndecided) {
		t.Errorf("a webhook before the decision: %v", err)
	}
	if err := ring.SealWith(3, 1); !errors.Is(err, credential.ErrUnknownKey) {
		t.Errorf("sealing with a KEK that is not there: %v", err)
	}
	if err := ring.SealWith(1, 3); !errors.Is(err, credential.ErrUnknownKey) {
		t.Errorf("signing with a webhook key that is not there: %v", err)
	}
	if kek, webhook := ring.Sealing(); kek != 0 || webhook != 0 {
		t.Errorf("it seals with %d and %d after refusals", kek, webhook)
	}
	if err := ring.SealWith(1, 2); err != nil {
		t.Fatal(err)
	}
	sealed := seal(t, ring, 7, 8, basic("a", "b"))
	if credential.SealedUnder(sealed.Key) != 1 || sealed.WebhookKey != 2 || !strings.Contains(query(t, sealed), "&m=2.") {
		t.Errorf("sealed under KEK %d and webhook key %d", credential.SealedUnder(sealed.Key), sealed.WebhookKey)
	}
}

func TestWhatIsSealedAnewOpensWithoutTheOldKEK(t *testing.T) {
	t.Parallel()
	old, both, next := keyring(t, tenant, keys(1)), keyring(t, tenant, keys(1, 2)), keyring(t, tenant, keys(2))
	pair, err := old.NewKeyPair()
	if err != nil {
		t.Fatal(err)
	}
	if pair.Private, err = both.ResealKeyPair(pair.ID, pair.Private); err != nil {
		t.Fatal(err)
	}
	if _, err := next.OpenKeyPair(pair); err != nil || credential.SealedUnder(pair.Private) != 2 {
		t.Errorf("the key pair is sealed under KEK %d: %v", credential.SealedUnder(pair.Private), err)
	}
	if _, err := both.ResealKeyPair("another", pair.Private); !errors.Is(err, credential.ErrSealBroken) {
		t.Errorf("a key pair of another name is sealed anew: %v", err)
	}
	k := keys(1, 2)
	delete(k.KEKs, 1) // the webhook key stays as long as there are URLs that it signed
	next = keyring(t, tenant, k)
	sealed := seal(t, old, 7, 8, basic("alice", "s3cret"))
	key, err := both.ResealSubscriptionKey(7, 8, sealed.Key)
	if err != nil {
		t.Fatal(err)
	}
	hook, err := next.ParseWebhook(query(t, sealed))
	if err != nil {
		t.Fatal(err)
	}
	if c, err := next.OpenWebhook(hook, credential.Resting{Key: key}); err != nil || c.Password.RevealString() != "s3cret" {
		t.Errorf("the credential does not come back: %v", err)
	}
}

func TestKeyringNeedsUsableKeys(t *testing.T) {
	t.Parallel()
	short := keys(1)
	short.KEKs[1] = secret.New(make([]byte, config.KeySize-1))
	noWebhook := keys(1)
	clear(noWebhook.Webhooks)
	noKEK := keys(1)
	clear(noKEK.KEKs)
	for name, test := range map[string]struct {
		keys config.Keys
		want error
	}{
		"no KEK":         {noKEK, config.ErrNoKey},
		"no webhook key": {noWebhook, config.ErrNoKey},
		"a KEK that is not an AES-256 key, beside a good one": {
			config.Keys{KEKs: map[int]secret.Value{1: short.KEKs[1], 2: key(2)}, Webhooks: short.Webhooks}, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := credential.NewKeyring(tenant, test.keys)
			if err == nil || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("got error %v, want %v", err, test.want)
			}
		})
	}
}

func TestKeyPairOpensUnderItsOwnTenantAndKEKOnly(t *testing.T) {
	t.Parallel()
	pair, err := keyring(t, tenant, keys(1, 2)).NewKeyPair()
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.ParsePKIXPublicKey(pair.Public)
	if err != nil {
		t.Fatal(err)
	}
	renamed, cut, flipped := pair, pair, pair
	renamed.ID = "0123456789abcdef"
	cut.Private = pair.Private[:3]
	flipped.Private = bytes.Clone(pair.Private)
	flipped.Private[len(flipped.Private)-1] ^= 1
	foreign := keys(1)
	foreign.KEKs[2] = key(99)
	for name, test := range map[string]struct {
		ring *credential.Keyring
		pair credential.KeyPair
		want error
	}{
		"the same keys":                          {keyring(t, tenant, keys(1, 2)), pair, nil},
		"after a newer KEK came":                 {keyring(t, tenant, keys(2, 3)), pair, nil},
		"its KEK, the newest, is not here yet":   {keyring(t, tenant, keys(1)), pair, credential.ErrUnknownKey},
		"its KEK was dropped":                    {keyring(t, tenant, keys(3)), pair, credential.ErrUnknownKey},
		"another KEK under the same number":      {keyring(t, tenant, foreign), pair, credential.ErrSealBroken},
		"another tenant with the same keys":      {keyring(t, "ens_other", keys(1, 2)), pair, credential.ErrSealBroken},
		"a pair under another pair's id":         {keyring(t, tenant, keys(1, 2)), renamed, credential.ErrSealBroken},
		"too short to hold a KEK's number":       {keyring(t, tenant, keys(1, 2)), cut, credential.ErrSealBroken},
		"a flipped bit":                          {keyring(t, tenant, keys(1, 2)), flipped, credential.ErrSealBroken},
		"nothing at all where the key should be": {keyring(t, tenant, keys(1, 2)), credential.KeyPair{ID: pair.ID}, credential.ErrSealBroken},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			private, err := test.ring.OpenKeyPair(test.pair)
			if !errors.Is(err, test.want) {
				t.Fatalf("got error %v, want %v", err, test.want)
			}
			if test.want == nil && !private.PublicKey.Equal(public) {
				t.Error("the private key does not belong to the public one")
			}
			if test.want == nil && private.N.BitLen() != credential.KeyBits {
				t.Errorf("the key has %d bits, want %d", private.N.BitLen(), credential.KeyBits)
			}
		})
	}
}

func TestSubscriptionKeyIsNoPrivateKey(t *testing.T) {
	t.Parallel()
	ring := keyring(t, tenant, keys(1))
	sealed := seal(t, ring, 7, 8, basic("alice", "secret"))
	if _, err := ring.OpenKeyPair(credential.KeyPair{ID: "7/8", Private: sealed.Key}); !errors.Is(err, credential.ErrSealBroken) {
		t.Errorf("got error %v, want %v: what was sealed for one purpose must not serve another", err, credential.ErrSealBroken)
	}
}

func TestUserIDIsTheHashOfTheLowerCasedAddress(t *testing.T) {
	t.Parallel()
	want, err := credential.ParseUserID("1743604ea20cda831dc7aea285e7fdc011ca233caf0fa7d5d926916622dd182d")
	if err != nil {
		t.Fatal(err)
	}
	for name, address := range map[string]string{
		"as the original's documentation spells it": "vmwUser4@awRed.onmicrosoft.com",
		"in lower case": "vmwuser4@awred.onmicrosoft.com",
		"in upper case": "VMWUSER4@AWRED.ONMICROSOFT.COM",
	} {
		if got := credential.HashAddress(address); got != want {
			t.Errorf("%s: got %x, want %x", name, got, want)
		}
	}
	if credential.HashAddress("JÜRGEN@example.com") != sha256.Sum256([]byte("jürgen@example.com")) {
		t.Error("letters beyond ASCII are not lower-cased")
	}
}

func TestAuthTypeKnowsTheContractsNumbersOnly(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for number := credential.AuthType(-1); number <= 5; number++ {
		if want := number >= 0 && number <= 4; number.Known() != want {
			t.Errorf("authType %d: known %t, want %t", number, number.Known(), want)
		}
		if number.Known() {
			names[number.String()] = true
		}
	}
	if len(names) != 5 || names["unknown"] {
		t.Errorf("the five types are called %v", names)
	}
}
