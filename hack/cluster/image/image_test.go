package image_test

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/ens-operator/ens-operator/hack/cluster/image"
)

func TestAnImageStartsItsProgramAsNobody(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	program, archive := filepath.Join(folder, "tool"), filepath.Join(folder, "images", "tool.tar")
	if err := os.WriteFile(program, []byte("the program"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := image.Write(archive, "localhost/tool:1", program); err != nil {
		t.Fatal(err)
	}
	made, err := tarball.ImageFromPath(archive, nil)
	if err != nil {
		t.Fatal(err)
	}
	config, err := made.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.User != "65532:65532" || !slices.Equal(config.Config.Entrypoint, []string{"/program"}) {
		t.Errorf("it starts %v as %s", config.Config.Entrypoint, config.Config.User)
	}
	files := tar.NewReader(mutate.Extract(made))
	for {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			t.Fatal("the program is not in the image")
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Name != "program" {
			continue
		}
		content, err := io.ReadAll(files)
		if err != nil || string(content) != "the program" || header.Mode&0o111 == 0 {
			t.Errorf("the program is %q with mode %o (%v)", content, header.Mode, err)
		}
		return
	}
}
