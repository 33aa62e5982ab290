package stage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/ens-operator/ens-operator/hack/cluster/image"
	"github.com/ens-operator/ens-operator/hack/testenv"
)

const (
	// Registry is where the chart has our images from.
	Registry = "ghcr.io/ens-operator"
	// Version is what the chart installs.
	Version = "0.1.0"
	// NextVersion is what it is upgraded to: the same programs with another version in them.
	NextVersion = "0.1.1-e2e"

	certManagerImage = "localhost/cert-manager:1"
	traefikImage     = "localhost/traefik:1"
	small            = "-s -w"
)

// guests are the programs of others that run in the cluster.
var guests = []struct {
	reference string
	wrapper   testenv.Wrapper
}{
	{certManagerImage, testenv.Wrapper{
		Name: "cert-manager", Module: filepath.Join("hack", "cluster", "certmanager"), Package: ".", LinkerFlags: small,
	}},
	{traefikImage, testenv.Wrapper{
		Name: "traefik", Module: filepath.Join("hack", "cluster", "traefik"),
		Package: "github.com/traefik/traefik/v3/cmd/traefik", LinkerFlags: small,
	}},
}

// importImages makes our images and those of the guests, and brings them to the node.
func (s *Stage) importImages(ctx context.Context) error {
	folder := filepath.Join(s.Folder, "images")
	for _, version := range []string{Version, NextVersion} {
		s.say("making our images, version %s", version)
		command := exec.CommandContext(ctx, "go", "run", "./hack/images", "-out", folder, "-version", version,
			"-platforms", "linux/"+runtime.GOARCH)
		root, err := testenv.RepositoryRoot()
		if err != nil {
			return err
		}
		command.Dir = root
		if output, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("making our images: %w\n%s", err, output)
		}
		for _, name := range []string{"ens-operator", "ens-runtime"} {
			archive := filepath.Join(folder, name+"-"+version+".tar")
			if err := s.bring(ctx, archive, Registry+"/"+name); err != nil {
				return err
			}
		}
	}
	for _, guest := range guests {
		program, err := guest.wrapper.Program(ctx, s.progress)
		if err != nil {
			return err
		}
		archive := filepath.Join(folder, guest.wrapper.Name+".tar")
		if err := image.Write(archive, guest.reference, program); err != nil {
			return err
		}
		if err := s.bring(ctx, archive); err != nil {
			return err
		}
	}
	return nil
}

// bring makes an archive's images known to the node. Where the archive has the tag only, base is the rest of the name.
func (s *Stage) bring(ctx context.Context, archive string, base ...string) error {
	if s.own != nil {
		return s.own.Import(ctx, archive, base...)
	}
	command := os.Getenv("E2E_IMPORT")
	if command == "" {
		return errors.New("with KUBECONFIG set, set E2E_IMPORT to a shell command that brings the image archive $1, named $2 if it has no name of its own, to the nodes")
	}
	_, err := s.run(ctx, nil, "/bin/sh", append([]string{"-c", command, "import", archive}, base...)...)
	return err
}
