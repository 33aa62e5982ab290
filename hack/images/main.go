// Command images makes the container images of operator and runtime, as OCI archives, without a container engine. Built
// twice from the same commit they are the same to the byte.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/ens-operator/ens-operator/hack/testenv"
)

// program is what an image is made of.
type program struct {
	// name is the image's, and the file's inside.
	name string
	// source is the package to build, as the go command is told it.
	source      string
	title, text string
}

var programs = []program{
	{"ens-operator", "./cmd/operator", "ens-operator", "Runs Email Notification Service tenants on Kubernetes"},
	{"ens-runtime", "./cmd/runtime", "ens-runtime", "One tenant's server for Boxer and Exchange"},
}

// platform is what an image runs on.
type platform struct{ os, architecture string }

func (p platform) String() string { return p.os + "/" + p.architecture }

var platforms = []platform{{"linux", "amd64"}, {"linux", "arm64"}}

// release is what all images of a run have in common.
type release struct {
	// root is the checkout.
	root string
	// version is the images' tag.
	version string
	// revision is the commit, with "-dirty" behind it where the checkout differs from it.
	revision string
	// when is the time of everything in the images: the commit's, or SOURCE_DATE_EPOCH.
	when time.Time
}

func main() {
	folder := flag.String("out", "bin", "the folder for the archives")
	version := flag.String("version", "", "the images' version; empty for the chart's appVersion")
	chosen := flag.String("platforms", "", "only these, separated by commas, e.g. linux/amd64; empty for all")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *folder, *version, *chosen); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, folder, version, chosen string) error {
	on, err := choose(chosen)
	if err != nil {
		return err
	}
	r, err := newRelease(ctx, version, os.Getenv("SOURCE_DATE_EPOCH"))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for _, p := range programs {
		archive, digest, err := r.make(ctx, folder, p, on)
		if err != nil {
			return fmt.Errorf("making the image %s: %w", p.name, err)
		}
		fmt.Printf("%s %s\n", archive, digest)
	}
	return nil
}

// choose returns the platforms of a list.
func choose(list string) ([]platform, error) {
	if list == "" {
		return platforms, nil
	}
	var on []platform
	for name := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(platforms, func(p platform) bool { return p.String() == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no platform %q, only %v", name, platforms)
		}
		on = append(on, platforms[i])
	}
	return on, nil
}

// newRelease asks git and the chart.
func newRelease(ctx context.Context, version, epoch string) (release, error) {
	root, err := testenv.RepositoryRoot()
	if err != nil {
		return release{}, err
	}
	r := release{root: root, version: version}
	if r.version == "" {
		if r.version, err = chartVersion(root); err != nil {
			return release{}, err
		}
	}
	if r.revision, err = git(ctx, root, "rev-parse", "HEAD"); err != nil {
		return release{}, err
	}
	changed, err := git(ctx, root, "status", "--porcelain")
	if err != nil {
		return release{}, err
	}
	if changed != "" {
		r.revision += "-dirty"
	}
	if epoch == "" {
		if epoch, err = git(ctx, root, "show", "--no-patch", "--format=%ct", "HEAD"); err != nil {
			return release{}, err
		}
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return release{}, fmt.Errorf("SOURCE_DATE_EPOCH is no time in seconds: %w", err)
	}
	r.when = time.Unix(seconds, 0).UTC()
	return r, nil
}

// chartVersion is the version that the chart installs.
func chartVersion(root string) (string, error) {
	file := filepath.Join(root, "charts", "ens-operator", "Chart.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	var chart struct {
		AppVersion string `json:"appVersion"`
	}
	if err := yaml.Unmarshal(text, &chart); err != nil || chart.AppVersion == "" {
		return "", fmt.Errorf("%s has no appVersion (%w)", file, err)
	}
	return chart.AppVersion, nil
}

func git(ctx context.Context, root string, arguments ...string) (string, error) {
	command := exec.CommandContext(ctx, "git", arguments...)
	command.Dir = root
	output, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w", strings.Join(arguments, " "), err)
	}
	return strings.TrimSpace(string(output)), nil
}

// build builds a program into a file. Neither the checkout's path nor the time nor the state of git gets into it.
func (r release) build(ctx context.Context, file string, p program, on platform) error {
	command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags=-s -w -X main.version="+r.version, "-o", file, p.source)
	command.Dir = r.root
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+on.os, "GOARCH="+on.architecture, "GOFLAGS=", "GOAMD64=v1", "GOARM64=v8.0")
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s for %s: %w\n%s", p.source, on, err, output)
	}
	return nil
}
