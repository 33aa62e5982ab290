package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	// nobody is the user and group of the programs; pods that must not run as root need a number.
	nobody = "65532:65532"
	// source is where the code is from.
	source = "https://github.com/ens-operator/ens-operator"
	// refName is the annotation by which tools choose an image in an archive that has several manifests.
	refName = "org.opencontainers.image.ref.name"
)

// make builds a program for the platforms and writes <name>-<version>.tar, an OCI archive with an index over them, and
// beside it a bill of materials for each. It returns the archive's path and the index's digest.
func (r release) make(ctx context.Context, folder string, p program, on []platform) (string, v1.Hash, error) {
	work, err := os.MkdirTemp("", "images-*")
	if err != nil {
		return "", v1.Hash{}, err
	}
	defer func() { _ = os.RemoveAll(work) }() // what stays in the temporary folder harms nobody
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	var materials []v1.Image
	for _, target := range on {
		file := filepath.Join(work, target.architecture)
		if err := r.build(ctx, file, p, target); err != nil {
			return "", v1.Hash{}, err
		}
		image, err := r.image(file, p, target)
		if err != nil {
			return "", v1.Hash{}, err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: target.os, Architecture: target.architecture}},
		})
		bom, err := r.billOfMaterials(file, p)
		if err != nil {
			return "", v1.Hash{}, err
		}
		beside := filepath.Join(folder, fmt.Sprintf("%s-%s-%s-%s.cdx.json", p.name, r.version, target.os, target.architecture))
		if err := os.WriteFile(beside, bom, 0o644); err != nil {
			return "", v1.Hash{}, err
		}
		referrer, err := attach(image, bom)
		if err != nil {
			return "", v1.Hash{}, err
		}
		materials = append(materials, referrer)
	}
	tree := filepath.Join(work, "layout")
	if err := r.writeLayout(tree, index, materials); err != nil {
		return "", v1.Hash{}, err
	}
	archive := filepath.Join(folder, p.name+"-"+r.version+".tar")
	if err := r.pack(archive, tree); err != nil {
		return "", v1.Hash{}, err
	}
	digest, err := index.Digest()
	return archive, digest, err
}

// image has the root certificates and the program, and nothing else.
func (r release) image(file string, p program, on platform) (v1.Image, error) {
	roots, err := rootCertificates()
	if err != nil {
		return nil, err
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var layers []v1.Layer
	for _, files := range [][]entry{
		{{"etc/ssl/certs/ca-certificates.crt", roots, 0o644}},
		{{p.name, content, 0o755}},
	} {
		layer, err := r.layer(files)
		if err != nil {
			return nil, err
		}
		layers = append(layers, layer)
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err := mutate.AppendLayers(base, layers...)
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = on.os, on.architecture, v1.Time{Time: r.when}
	for i := range config.History {
		config.History[i] = v1.History{Created: config.Created, CreatedBy: "hack/images"}
	}
	config.Config = v1.Config{
		User:       nobody,
		Entrypoint: []string{"/" + p.name},
		WorkingDir: "/",
		Labels: map[string]string{
			"org.opencontainers.image.title":       p.title,
			"org.opencontainers.image.description": p.text,
			"org.opencontainers.image.version":     r.version,
			"org.opencontainers.image.revision":    r.revision,
			"org.opencontainers.image.created":     r.when.Format(time.RFC3339),
			"org.opencontainers.image.source":      source,
			"org.opencontainers.image.licenses":    "Apache-2.0",
		},
	}
	return mutate.ConfigFile(image, config)
}

// attach makes the bill of materials a referrer of the image, which registries list for it.
func attach(image v1.Image, bom []byte) (v1.Image, error) {
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), billMediaType)
	referrer, err := mutate.AppendLayers(base, static.NewLayer(bom, billMediaType))
	if err != nil {
		return nil, err
	}
	descriptor := v1.Descriptor{}
	if descriptor.MediaType, err = image.MediaType(); err != nil {
		return nil, err
	}
	if descriptor.Size, err = image.Size(); err != nil {
		return nil, err
	}
	if descriptor.Digest, err = image.Digest(); err != nil {
		return nil, err
	}
	return mutate.Subject(referrer, descriptor).(v1.Image), nil
}

// writeLayout writes an OCI image layout. Its index names the images' index by the version, and the bills of materials.
func (r release) writeLayout(folder string, index v1.ImageIndex, materials []v1.Image) error {
	tree, err := layout.Write(folder, empty.Index)
	if err != nil {
		return err
	}
	if err := tree.AppendIndex(index, layout.WithAnnotations(map[string]string{refName: r.version})); err != nil {
		return err
	}
	for _, bom := range materials {
		if err := tree.AppendImage(bom); err != nil {
			return err
		}
	}
	return nil
}

// entry is a file in a layer.
type entry struct {
	name    string
	content []byte
	mode    int64
}

// layer has the files, of root and of the release's time, and the folders that lead to them.
func (r release) layer(files []entry) (v1.Layer, error) {
	var content bytes.Buffer
	writer := tar.NewWriter(&content)
	for _, file := range files {
		if err := r.addFolders(writer, path.Dir(file.name)); err != nil {
			return nil, err
		}
		if err := r.addFile(writer, file.name, file.mode, int64(len(file.content)), bytes.NewReader(file.content)); err != nil {
			return nil, err
		}
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(gzip.DefaultCompression), tarball.WithCompressedCaching)
}

func (r release) addFolders(writer *tar.Writer, name string) error {
	if name == "." {
		return nil
	}
	if err := r.addFolders(writer, path.Dir(name)); err != nil {
		return err
	}
	return writer.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755, ModTime: r.when, Format: tar.FormatPAX})
}

func (r release) addFile(writer *tar.Writer, name string, mode, size int64, content io.Reader) error {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: size, ModTime: r.when, Format: tar.FormatPAX}
	if err := writer.WriteHeader(header); err != nil {
		return err
	}
	_, err := io.Copy(writer, content)
	return err
}

// pack puts a folder into a tar archive, in the order of the names and with the release's time.
func (r release) pack(archive, folder string) (err error) {
	output, err := os.Create(archive)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := output.Close(); err == nil {
			err = closeErr
		}
	}()
	writer := tar.NewWriter(output)
	err = filepath.WalkDir(folder, func(file string, found fs.DirEntry, err error) error {
		if err != nil || found.IsDir() {
			return err
		}
		name, err := filepath.Rel(folder, file)
		if err != nil {
			return err
		}
		content, err := os.Open(file)
		if err != nil {
			return err
		}
		defer content.Close()
		about, err := content.Stat()
		if err != nil {
			return err
		}
		return r.addFile(writer, filepath.ToSlash(name), 0o644, about.Size(), content)
	})
	if err != nil {
		return err
	}
	return writer.Close()
}
