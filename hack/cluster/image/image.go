// Package image makes container images of single programs that are built here, without a container engine.
package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// nobody is the user and group of the program.
const nobody = "65532:65532"

// Write writes an archive, as `docker load` and `ctr images import` take it, of an image for this machine that has nothing
// but a program, which it starts, and a folder for temporary files.
func Write(archive, reference, program string) error {
	content, err := os.ReadFile(program)
	if err != nil {
		return fmt.Errorf("reading the program of the image %s: %w", reference, err)
	}
	tag, err := name.NewTag(reference)
	if err != nil {
		return err
	}
	files, err := pack(content)
	if err != nil {
		return err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files)), nil })
	if err != nil {
		return err
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = runtime.GOOS, runtime.GOARCH
	config.Config.User, config.Config.Entrypoint, config.Config.Env = nobody, []string{"/program"}, []string{"PATH=/"}
	if image, err = mutate.ConfigFile(image, config); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(archive), 0o755); err != nil {
		return err
	}
	if err := tarball.WriteToFile(archive, tag, image); err != nil {
		return fmt.Errorf("writing the image %s: %w", reference, err)
	}
	return nil
}

// pack makes the one layer.
func pack(program []byte) ([]byte, error) {
	var layer bytes.Buffer
	writer := tar.NewWriter(&layer)
	const forAll = 0o1777
	if err := writer.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: forAll}); err != nil {
		return nil, err
	}
	header := &tar.Header{Typeflag: tar.TypeReg, Name: "program", Mode: 0o755, Size: int64(len(program))}
	if err := writer.WriteHeader(header); err != nil {
		return nil, err
	}
	if _, err := writer.Write(program); err != nil {
		return nil, err
	}
	err := writer.Close()
	return layer.Bytes(), err
}
