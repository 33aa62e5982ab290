package main

import (
	"errors"
	"testing"
	"time"
)

// values are a report's figures by stage and name.
func (r *report) values() map[string]float64 {
	values := map[string]float64{}
	for _, f := range r.Figures {
		values[f.Stage+"/"+f.Name] = f.Value
	}
	return values
}

// TestTooMuchIsShedAndNothingIsLost runs the overload small, under a quota where there may be one.
func TestTooMuchIsShedAndNothingIsLost(t *testing.T) {
	s := settings{
		users: 2000, stage: 2 * time.Second, hurry: 30, only: "overload", quota: 0.05, exchangeDelay: time.Millisecond, providerDelay: time.Millisecond,
	}
	r, err := bench(t.Context(), s, t.Output())
	if errors.Is(err, errNoQuota) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	values := r.values()
	for _, name := range []string{
		"capacity", "mails taken", "mails told, of the capacity", "time without CPU, its quota used up", "memory at most",
		"afterwards, until everything was taken",
	} {
		if values["overload/"+name] <= 0 {
			t.Errorf("%s is %v", name, values["overload/"+name])
		}
	}
	if offered := values["overload/offered, of the capacity"]; offered < 2 {
		t.Errorf("only %.2f times the capacity was offered", offered)
	}
}

// TestOthersFeelLittle runs the troubles small. How much is felt is not judged here; that it is measured and nothing is lost is.
func TestOthersFeelLittle(t *testing.T) {
	s := settings{users: 400, stage: time.Second, hurry: 60, only: "isolation", exchangeDelay: time.Millisecond, providerDelay: time.Millisecond}
	r, err := bench(t.Context(), s, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	values := r.values()
	for _, name := range []string{"one endpoint of two hangs for 5 s", "one user is noisy", "one provider of two answers 500", "one provider of two hangs"} {
		for _, what := range []string{": others' answer, p99", ": others' own part, p50", ": others' own part, p99, to before"} {
			if values["isolation/"+name+what] <= 0 {
				t.Errorf("%s%s is %v", name, what, values["isolation/"+name+what])
			}
		}
	}
}

// TestTwoReplicasTellEverythingOnce has each user's posts go to both; bench fails if anything is lost or told twice.
func TestTwoReplicasTellEverythingOnce(t *testing.T) {
	s := settings{users: 40, inFlight: 8, stage: time.Second, only: "replicas", exchangeDelay: time.Millisecond, providerDelay: time.Millisecond}
	r, err := bench(t.Context(), s, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	values := r.values()
	for _, name := range []string{"rate of one", "rate of two", "one: runtime's CPU a post", "two: runtimes' CPU a post"} {
		if values["replicas/"+name] <= 0 {
			t.Errorf("%s is %v", name, values["replicas/"+name])
		}
	}
}

func TestAQuotaIsSetWhereTheProcessIs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		memberships, folder string
		version             int
		files               map[string]string
	}{
		"version 1": {
			"9:name=systemd:/\n4:memory:/jobs\n1:cpu,cpuacct:/kubepods/pod1\n0::/\n", "/sys/fs/cgroup/cpu/kubepods/pod1", 1,
			map[string]string{"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "25000"},
		},
		"version 2, which has no groups where processes are": {
			"0::/user.slice/session.scope\n", "/sys/fs/cgroup/user.slice", 2, map[string]string{"cpu.max": "25000 100000"},
		},
		"version 2, at the root": {"0::/\n", "/sys/fs/cgroup", 2, map[string]string{"cpu.max": "25000 100000"}},
	} {
		folder, version := controlGroup(groupRoot, c.memberships)
		if folder != c.folder || version != c.version {
			t.Errorf("%s: %s, version %d", name, folder, version)
		}
		files := quotaFiles(version, 0.25)
		for file, want := range c.files {
			if files[file] != want || len(files) != len(c.files) {
				t.Errorf("%s: %s is %q", name, file, files[file])
			}
		}
	}
}
