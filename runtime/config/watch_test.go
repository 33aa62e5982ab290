package config_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/ens-operator/ens-operator/runtime/config"
)

// withPolicy is the sample with a policy by which versions are told apart.
func withPolicy(t testing.TB, set fileSet, policy int32) fileSet {
	t.Helper()
	c := sample()
	c.Notifications.PolicyCeiling = policy
	return set.with(config.FileName, render(t, c))
}

func policyOf(loaded *config.Loaded) int32 { return loaded.Config.Notifications.PolicyCeiling }

// newSource returns the Source of path, the configurations its subscriber got and the errors its hook got.
func newSource(t *testing.T, path string) (source *config.Source, changes *[]*config.Loaded, faults *[]error) {
	t.Helper()
	changes, faults = new([]*config.Loaded), new([]error)
	source, err := config.NewSource(path, config.Options{OnError: func(err error) { *faults = append(*faults, err) }})
	if err != nil {
		t.Fatal(err)
	}
	source.Subscribe(func(loaded *config.Loaded) { *changes = append(*changes, loaded) })
	return source, changes, faults
}

func TestASourceStartsOnlyWithAValidSet(t *testing.T) {
	t.Parallel()
	path := sampleFiles(t).with(config.DatabaseURLFile, nil).write(t, t.TempDir())
	if _, err := config.NewSource(path, config.Options{}); err == nil || !strings.Contains(err.Error(), config.DatabaseURLFile) {
		t.Errorf("got %v, want an error that names the missing file", err)
	}
}

func TestReloadFollowsAVolumeAsKubeletSwapsIt(t *testing.T) {
	t.Parallel()
	set := sampleFiles(t)
	volume, path := newVolume(t, "1", withPolicy(t, set, 1))
	source, changes, faults := newSource(t, path)
	if got := policyOf(source.Current()); got != 1 {
		t.Fatalf("got policy %d, want 1", got)
	}

	volume.publish(t, "2", withPolicy(t, set, 2))
	if err := source.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := policyOf(source.Current()); got != 2 {
		t.Errorf("after the swap got policy %d, want 2", got)
	}

	// Kubelet publishes anew whenever any source of the volume is written, often with the same content.
	volume.publish(t, "3", withPolicy(t, set, 2))
	if err := source.Reload(); err != nil {
		t.Fatal(err)
	}
	if len(*changes) != 1 || (*changes)[0] != source.Current() || len(*faults) != 0 {
		t.Errorf("subscribers got %v and the hook %v, want the one change and nothing", *changes, *faults)
	}
}

func TestAChangeOfAnyFileIsSeen(t *testing.T) {
	t.Parallel()
	newKeys := config.NewKeyFiles()
	pair, err := newSelfSigned()
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]fileSet{
		"the configuration": withPolicy(t, fileSet{}, 3),
		"an API token":      {config.APITokenHashesFile: []byte(pin + " 2030-01-01T00:00:00Z\n")},
		"the database URL":  {config.DatabaseURLFile: []byte("host=db user=acme_b")},
		"another key":       {"keys/kek-2": newKeys["kek-1"]},
		"the certificate":   {config.TLSCertificateFile: pair[0], config.TLSKeyFile: pair[1]},
		"an authority":      {"endpoints/branch/ca.crt": pair[0]},
		"a push credential": {"push/apple/key.p8": []byte("another key of Apple")},
		"a push authority":  {"push/apple/ca.crt": pair[0]},
	}
	for name, changed := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			source, changes, _ := newSource(t, sampleFiles(t).write(t, folder))
			before := source.Current()
			changed.write(t, folder)
			if err := source.Reload(); err != nil {
				t.Fatal(err)
			}
			if len(*changes) != 1 || source.Current() == before {
				t.Errorf("subscribers got %d changes, want 1", len(*changes))
			}
		})
	}
}

func TestAnInvalidSetLeavesTheLastGoodOneInForce(t *testing.T) {
	t.Parallel()
	good := sampleFiles(t)
	half := good[config.FileName][:len(good[config.FileName])/2]
	tests := map[string]fileSet{
		"a configuration that is half written":    good.with(config.FileName, half),
		"a configuration that is not there yet":   good.with(config.FileName, nil),
		"token hashes that are not there yet":     good.with(config.APITokenHashesFile, nil),
		"a certificate without its new key":       good.with(config.TLSKeyFile, []byte("-----BEGIN PRIVATE KEY-----")),
		"a provider whose credential is missing":  good.with("push/apple/key.p8", nil),
		"keys of which one kind has been removed": good.with("keys/webhook-1", nil),
	}
	for name, bad := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			volume, path := newVolume(t, "1", good)
			source, changes, faults := newSource(t, path)
			before := source.Current()

			volume.publish(t, "2", bad)
			for range 3 { // the poll meets it again and again
				if err := source.Reload(); err == nil {
					t.Fatal("reloaded, want an error")
				}
			}
			if source.Current() != before || len(*changes) != 0 {
				t.Error("the last good configuration is not in force any more")
			}
			if source.Valid() {
				t.Error("the source calls itself valid")
			}
			if len(*faults) != 1 || !strings.Contains((*faults)[0].Error(), "stays in force") {
				t.Errorf("the hook got %v, want the error once", *faults)
			}

			volume.publish(t, "3", good)
			if err := source.Reload(); err != nil {
				t.Fatal(err)
			}
			if !source.Valid() || source.Current() != before || len(*changes) != 0 {
				t.Errorf("healed: valid %t, %d changes, want true and none", source.Valid(), len(*changes))
			}

			volume.publish(t, "4", bad)
			if err := source.Reload(); err == nil || len(*faults) != 2 {
				t.Errorf("broken again: got %v and the hook %v, want the error told again", err, *faults)
			}
		})
	}
}

func TestASourceStaysWithItsTenant(t *testing.T) {
	t.Parallel()
	set := sampleFiles(t)
	folder := t.TempDir()
	source, _, _ := newSource(t, set.write(t, folder))
	other := sample()
	other.Tenant.ID = "ens_other"
	set.with(config.FileName, render(t, other)).write(t, folder)
	if err := source.Reload(); !errors.Is(err, config.ErrTenantChanged) {
		t.Errorf("got %v, want ErrTenantChanged", err)
	}
	if got := source.Current().Config.Tenant.ID; got != sample().Tenant.ID || source.Valid() {
		t.Errorf("serves tenant %s, valid %t", got, source.Valid())
	}
}

// tickerClock stands still unless it is stepped and tells when Run has made its ticker.
type tickerClock struct {
	*clocktesting.FakeClock
	made chan struct{}
}

func (c *tickerClock) NewTicker(interval time.Duration) clock.Ticker {
	defer close(c.made)
	return c.FakeClock.NewTicker(interval)
}

// run runs the source of path until the test ends. Its changes come over the channel.
func run(t *testing.T, path string) (*config.Source, *tickerClock, <-chan *config.Loaded) {
	t.Helper()
	clock := &tickerClock{FakeClock: clocktesting.NewFakeClock(time.Unix(0, 0)), made: make(chan struct{})}
	source, err := config.NewSource(path, config.Options{Clock: clock, OnError: func(err error) { t.Log(err) }})
	if err != nil {
		t.Fatal(err)
	}
	changes := make(chan *config.Loaded)
	ctx, stop := context.WithCancel(t.Context())
	source.Subscribe(func(loaded *config.Loaded) {
		select {
		case changes <- loaded:
		case <-ctx.Done():
		}
	})
	stopped := make(chan error)
	go func() { stopped <- source.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-stopped; err != nil {
			t.Errorf("Run ended with %v", err)
		}
	})
	return source, clock, changes
}

// expectPolicy waits until the policy is in force. Versions in between may be skipped.
func expectPolicy(t *testing.T, changes <-chan *config.Loaded, want int32) {
	t.Helper()
	for loaded := range changes {
		if policyOf(loaded) == want {
			return
		}
	}
}

func TestRunFollowsAVolumeByItsEvents(t *testing.T) {
	t.Parallel()
	set := sampleFiles(t)
	volume, path := newVolume(t, "0", withPolicy(t, set, 0))
	source, _, changes := run(t, path)
	for policy := int32(1); policy <= 4; policy++ {
		volume.publish(t, strconv.Itoa(int(policy)), withPolicy(t, set, policy))
		expectPolicy(t, changes, policy)
	}
	if !source.Valid() {
		t.Error("the source calls itself invalid")
	}
}

func TestRunFollowsAPlainFolderByItsEvents(t *testing.T) {
	t.Parallel()
	set := sampleFiles(t)
	folder := t.TempDir()
	path := withPolicy(t, set, 0).write(t, folder)
	_, _, changes := run(t, path)
	writeFile(t, path, withPolicy(t, set, 1)[config.FileName])
	expectPolicy(t, changes, 1)
	// From here on Run is known to watch. A file in a folder below:
	writeFile(t, filepath.Join(folder, config.DatabaseURLFile), []byte("postgres://other"))
	for loaded := range changes {
		if loaded.DatabaseURL.RevealString() == "postgres://other" {
			break
		}
	}
}

func TestRunPollsWhatSendsNoEvents(t *testing.T) {
	t.Parallel()
	set := sampleFiles(t)
	// The configuration is a link to a folder that nobody watches, and no ..data.
	folder, elsewhere := t.TempDir(), filepath.Join(t.TempDir(), "elsewhere.yaml")
	path := set.with(config.FileName, nil).write(t, folder)
	writeFile(t, elsewhere, withPolicy(t, set, 0)[config.FileName])
	if err := os.Symlink(elsewhere, path); err != nil {
		t.Fatal(err)
	}
	_, clock, changes := run(t, path)
	<-clock.made
	for policy := int32(1); policy <= 4; policy++ {
		writeFile(t, elsewhere, withPolicy(t, set, policy)[config.FileName])
		clock.Step(config.PollInterval)
		expectPolicy(t, changes, policy)
	}
}

func TestLoadNeverMixesTwoVersionsOfAVolume(t *testing.T) {
	t.Parallel()
	set := sampleFiles(t)
	version := func(policy int32) fileSet {
		return withPolicy(t, set, policy).with(config.DatabaseURLFile, fmt.Appendf(nil, "postgres://db/%d", policy))
	}
	volume, path := newVolume(t, "0", version(0))
	stop, loads := make(chan struct{}), make(chan int)
	go func() {
		count := 0
		for {
			select {
			case <-stop:
				loads <- count
				return
			default:
			}
			loaded, err := config.Load(path)
			switch {
			case err == nil:
				count++
				if url := loaded.DatabaseURL.RevealString(); url != fmt.Sprintf("postgres://db/%d", policyOf(loaded)) {
					t.Errorf("policy %d came with %s", policyOf(loaded), url)
				}
			case !strings.Contains(err.Error(), "kept changing"):
				t.Errorf("a swap under way shows as a fault: %v", err)
			}
		}
	}()
	for i := range 200 {
		volume.publish(t, strconv.Itoa(i+1), version(int32(i%5)))
	}
	close(stop)
	if <-loads == 0 {
		t.Error("nothing was loaded in between")
	}
}
