package main

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"debug/elf"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/ens-operator/ens-operator/hack/testenv"
)

func testRelease(t *testing.T) release {
	t.Helper()
	root, err := testenv.RepositoryRoot()
	if err != nil {
		t.Fatal(err)
	}
	return release{root: root, version: "1.2.3-test", revision: "0123abc", when: time.Unix(1_700_000_000, 0).UTC()}
}

var hello = program{"hello", "./hack/images/testdata/hello", "hello", "Says hello"}

// made is an archive that was made, opened.
type made struct {
	archive string
	content []byte
	digest  v1.Hash
	tree    layout.Path
	index   v1.ImageIndex
}

func build(t *testing.T, r release, p program, on ...platform) made {
	t.Helper()
	folder := t.TempDir()
	archive, digest, err := r.make(t.Context(), folder, p, on)
	if err != nil {
		t.Fatal(err)
	}
	m := made{archive: archive, digest: digest}
	if m.content, err = os.ReadFile(archive); err != nil {
		t.Fatal(err)
	}
	tree := t.TempDir()
	unpack(t, bytes.NewReader(m.content), tree)
	if m.tree, err = layout.FromPath(tree); err != nil {
		t.Fatal(err)
	}
	all, err := m.tree.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	if m.index, err = all.ImageIndex(digest); err != nil {
		t.Fatal(err)
	}
	return m
}

// image is that of a platform.
func (m made) image(t *testing.T, on platform) v1.Image {
	t.Helper()
	manifest, err := m.index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range manifest.Manifests {
		if entry.Platform != nil && entry.Platform.OS == on.os && entry.Platform.Architecture == on.architecture {
			image, err := m.index.Image(entry.Digest)
			if err != nil {
				t.Fatal(err)
			}
			return image
		}
	}
	t.Fatalf("there is no image for %s", on)
	return nil
}

// unpack writes what is in a tar archive into a folder, which the archive must not try to leave.
func unpack(t *testing.T, content io.Reader, into string) {
	t.Helper()
	root, err := os.OpenRoot(into)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	reader := tar.NewReader(content)
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Typeflag == tar.TypeDir {
			continue
		}
		text, err := io.ReadAll(reader)
		if err == nil {
			err = root.MkdirAll(filepath.Dir(header.Name), 0o700)
		}
		if err == nil {
			err = root.WriteFile(header.Name, text, header.FileInfo().Mode())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func files(t *testing.T, image v1.Image) string {
	t.Helper()
	content := mutate.Extract(image)
	defer content.Close()
	folder := t.TempDir()
	unpack(t, content, folder)
	return folder
}

func TestImagesForAllPlatforms(t *testing.T) {
	t.Parallel()
	m := build(t, testRelease(t), hello, platforms...)
	if err := validate.Index(m.index); err != nil {
		t.Error(err)
	}
	for on, machine := range map[platform]elf.Machine{{"linux", "amd64"}: elf.EM_X86_64, {"linux", "arm64"}: elf.EM_AARCH64} {
		program, err := elf.Open(filepath.Join(files(t, m.image(t, on)), "hello"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = program.Close() }()
		if program.Machine != machine {
			t.Errorf("the program for %s is for %s", on, program.Machine)
		}
		if dynamic, err := program.DynString(elf.DT_NEEDED); err == nil && len(dynamic) > 0 {
			t.Errorf("the program for %s needs %v, which an image from scratch does not have", on, dynamic)
		}
	}
}

func TestImageSaysWhatItIs(t *testing.T) {
	t.Parallel()
	r, on := testRelease(t), platform{"linux", "arm64"}
	m := build(t, r, hello, on)
	config, err := m.image(t, on).ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.User != "65532:65532" || !slices.Equal(config.Config.Entrypoint, []string{"/hello"}) ||
		config.OS != "linux" || config.Architecture != "arm64" || !config.Created.Equal(r.when) {
		t.Errorf("its configuration is %+v", config)
	}
	for name, want := range map[string]string{
		"title": "hello", "version": "1.2.3-test", "revision": "0123abc", "created": "2023-11-14T22:13:20Z",
		"source": "https://github.com/ens-operator/ens-operator", "licenses": "Apache-2.0",
	} {
		if got := config.Config.Labels["org.opencontainers.image."+name]; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	// By this name tools find it among the other manifests.
	all, err := m.tree.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	top, err := all.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if first := top.Manifests[0]; first.Digest != m.digest || first.Annotations["org.opencontainers.image.ref.name"] != r.version {
		t.Errorf("the archive begins with %+v", first)
	}
}

// The runtime as it is shipped, for the machine of the test.
func TestRuntimeImage(t *testing.T) {
	t.Parallel()
	r, on := testRelease(t), platform{"linux", runtime.GOARCH}
	runtimeProgram := programs[1]
	first, second := build(t, r, runtimeProgram, on), build(t, r, runtimeProgram, on)
	if first.digest != second.digest || !bytes.Equal(first.content, second.content) {
		t.Errorf("built twice it is %s and %s", first.digest, second.digest)
	}
	image := first.image(t, on)
	folder := files(t, image)

	t.Run("its program starts, with nothing else in its environment", func(t *testing.T) {
		command := exec.CommandContext(t.Context(), filepath.Join(folder, "ens-runtime"), "-h")
		command.Env = []string{}
		if output, _ := command.CombinedOutput(); !strings.Contains(string(output), "-config") {
			t.Errorf("it prints %q", output)
		}
	})
	t.Run("it can verify the push services' certificates", func(t *testing.T) {
		roots := readRoots(t, filepath.Join(folder, "etc", "ssl", "certs", "ca-certificates.crt"))
		for _, name := range []string{"USERTrust RSA Certification Authority", "GTS Root R1", "Amazon Root CA 1"} { // Apple, Google, Amazon
			if !slices.Contains(roots, name) {
				t.Errorf("there is no %s among %d certificates", name, len(roots))
			}
		}
	})
	t.Run("it holds nothing but the certificates and the program", func(t *testing.T) {
		var names []string
		err := filepath.WalkDir(folder, func(path string, entry os.DirEntry, err error) error {
			if err == nil && !entry.IsDir() {
				names = append(names, strings.TrimPrefix(path, folder))
			}
			return err
		})
		if want := []string{"/ens-runtime", "/etc/ssl/certs/ca-certificates.crt"}; err != nil || !slices.Equal(names, want) {
			t.Errorf("it holds %v, %v", names, err)
		}
	})
	t.Run("its bill of materials is beside it and refers to it", func(t *testing.T) {
		text, err := os.ReadFile(filepath.Join(filepath.Dir(first.archive), "ens-runtime-1.2.3-test-linux-"+runtime.GOARCH+".cdx.json"))
		if err != nil {
			t.Fatal(err)
		}
		if attached := attachedTo(t, first, image); !bytes.Equal(attached, text) {
			t.Errorf("attached is %q", attached)
		}
		checkBill(t, r, text)
	})
}

func readRoots(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, certificate.Subject.CommonName)
	}
	return names
}

// attachedTo is the content of the manifest whose subject is the image.
func attachedTo(t *testing.T, m made, image v1.Image) []byte {
	t.Helper()
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	all, err := m.tree.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	top, err := all.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range top.Manifests[1:] {
		referrer, err := all.Image(entry.Digest)
		if err != nil {
			t.Fatal(err)
		}
		manifest, err := referrer.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		if manifest.Subject == nil || manifest.Subject.Digest != digest || manifest.Layers[0].MediaType != billMediaType {
			continue
		}
		content, err := m.tree.Bytes(manifest.Layers[0].Digest)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	t.Fatal("nothing refers to the image")
	return nil
}

func checkBill(t *testing.T, r release, text []byte) {
	t.Helper()
	var b bill
	if err := json.Unmarshal(text, &b); err != nil {
		t.Fatal(err)
	}
	if b.Format != "CycloneDX" || b.Metadata.Component.Name != "ens-runtime" || b.Metadata.Component.Version != r.version {
		t.Errorf("it is a bill of %+v", b.Metadata)
	}
	versions := map[string]string{}
	for _, part := range b.Components {
		versions[part.Name] = part.Version
		if part.URL != "pkg:golang/"+part.Name+"@"+strings.ReplaceAll(part.Version, "+", "%2B") {
			t.Errorf("%s has the URL %s", part.Name, part.URL)
		}
	}
	// What go.mod says of a library that the runtime has for certain.
	pinned, err := os.ReadFile(filepath.Join(r.root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	if pgx := "github.com/jackc/pgx/v5"; versions[pgx] == "" || !strings.Contains(string(pinned), pgx+" "+versions[pgx]+"\n") {
		t.Errorf("it has %s in version %q", pgx, versions[pgx])
	}
	if want := strings.TrimPrefix(runtime.Version(), "go"); versions["std"] != want {
		t.Errorf("it has Go %s, want %s", versions["std"], want)
	}
	if versions["k8s.io/client-go"] != "" {
		t.Error("it has what only the operator has")
	}
}

func TestReleaseIsThatOfTheCommit(t *testing.T) {
	t.Parallel()
	r, err := newRelease(t.Context(), "", "")
	if err != nil {
		t.Skip("this is no checkout with git:", err)
	}
	chart, err := os.ReadFile(filepath.Join(r.root, "charts", "ens-operator", "Chart.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(chart), "appVersion: \""+r.version+"\"\n") {
		t.Errorf("the version is %s, which the chart does not install", r.version)
	}
	if !r.when.Before(time.Now()) || len(strings.TrimSuffix(r.revision, "-dirty")) != 40 {
		t.Errorf("it is %s of %s", r.revision, r.when)
	}
	other, err := newRelease(t.Context(), "9.9.9", "1700000000")
	if err != nil || other.version != "9.9.9" || other.when.Unix() != 1_700_000_000 {
		t.Errorf("what is asked for is ignored: %+v, %v", other, err)
	}
	if _, err := newRelease(t.Context(), "", "yesterday"); err == nil {
		t.Error("a time that is none is accepted")
	}
}
