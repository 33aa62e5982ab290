package main

import (
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func parse(t *testing.T, environment map[string]string, arguments ...string) (options, error) {
	t.Helper()
	flags := flag.NewFlagSet("ens-operator", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	return parseOptions(flags, arguments, func(name string) string { return environment[name] })
}

func TestDefaultsAreSafe(t *testing.T) {
	t.Parallel()
	o, err := parse(t, map[string]string{databaseURLVariable: "postgres://x"})
	if err != nil {
		t.Fatal(err)
	}
	if o.allowLoopback || !o.leaderElect || !o.metricsSecure || o.metricsFilter() == nil || o.runtimeImage == "" || o.namespaces != nil || o.maxRollouts != 1 {
		t.Errorf("by default %+v", o)
	}
	if url, err := o.databaseURL(); err != nil || url.RevealString() != "postgres://x" {
		t.Errorf("the database URL is not that of the environment (%v)", err)
	}
}

func TestDatabaseURLFileIsReadAnew(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "url")
	o, err := parse(t, nil, "--database-url-file", file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.databaseURL(); err == nil {
		t.Error("a file that is missing was read")
	}
	for _, want := range []string{"postgres://first", "postgres://second"} {
		if err := os.WriteFile(file, []byte(want+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if url, err := o.databaseURL(); err != nil || url.RevealString() != want {
			t.Errorf("not %s (%v)", want, err)
		}
	}
}

func TestAuthoritiesBesideTheDatabaseURLAreReadAnew(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	o, err := parse(t, nil, "--database-url-file", filepath.Join(folder, "url"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := o.databaseAuthorities(); got != nil || err != nil {
		t.Errorf("where there are none, got %q, %v", got, err)
	}
	for _, want := range []string{"first", "second"} {
		if err := os.WriteFile(filepath.Join(folder, "ca.crt"), []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := o.databaseAuthorities(); string(got) != want || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	}
	if o, err = parse(t, map[string]string{databaseURLVariable: "postgres://x"}); err != nil || o.databaseAuthorities != nil {
		t.Errorf("a URL from the environment has a folder (%v)", err)
	}
}

func TestNamespaces(t *testing.T) {
	t.Parallel()
	o, err := parse(t, nil, "--database-url-file=x", "--watch-namespaces=a, b,,")
	if err != nil || !slices.Equal(o.namespaces, []string{"a", "b"}) {
		t.Errorf("got %q, %v", o.namespaces, err)
	}
}

func TestAShardHasALeaseOfItsOwn(t *testing.T) {
	t.Parallel()
	lease := func(arguments ...string) string {
		t.Helper()
		o, err := parse(t, nil, append([]string{"--database-url-file=x"}, arguments...)...)
		if err != nil {
			t.Fatal(err)
		}
		return o.leaderElectionID
	}
	const all = "ens-operator.ens-operator.io"
	if got := lease(); got != all {
		t.Errorf("without a selector it is %s", got)
	}
	if got := lease("--watch-label-selector=shard=north"); got == all || got == lease("--watch-label-selector=shard=south") {
		t.Errorf("a shard's is %s", got)
	}
	if got := lease("--watch-label-selector=shard=north", "--leader-election-id=north"); got != "north" {
		t.Errorf("one that is given is %s", got)
	}
}

func TestWrongOptionsAreRefused(t *testing.T) {
	t.Parallel()
	for says, arguments := range map[string][]string{
		"--database-url-file":        nil,
		"unexpected argument":        {"--database-url-file=x", "y"},
		"is no port":                 {"--database-url-file=x", "--runtime-database-port=65536"},
		"reading the label selector": {"--database-url-file=x", "--watch-label-selector=a=b=c"},
		"not defined":                {"--nonsense"},
	} {
		if _, err := parse(t, nil, arguments...); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: got %v, want an error that says %q", arguments, err, says)
		}
	}
}
