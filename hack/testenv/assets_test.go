package testenv_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/ens-operator/ens-operator/hack/testenv"
)

const pinned = "v1.99.3"

// writeFiles makes files below folder.
func writeFiles(t *testing.T, folder string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		file := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// buildable is a module like hack/kube, but with tiny programs that print the version built into them.
func buildable(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	version := "package version\n\nvar gitVersion = \"unset\"\n\nfunc Get() string { return gitVersion }\n"
	program := "package main\n\nimport \"k8s.io/component-base/version\"\n\nfunc main() { print(version.Get()) }\n"
	writeFiles(t, folder, map[string]string{
		"go.mod": `module example.test/kube

go 1.26.0

require (
	go.etcd.io/etcd/server/v3 v3.0.0
	k8s.io/component-base v0.0.0
	k8s.io/kubernetes ` + pinned + `
)

replace (
	go.etcd.io/etcd/server/v3 => ./etcd
	k8s.io/component-base => ./component-base
	k8s.io/kubernetes => ./kubernetes
)
`,
		"kubernetes/go.mod":                     "module k8s.io/kubernetes\n\ngo 1.26.0\n\nrequire k8s.io/component-base v0.0.0\n",
		"kubernetes/cmd/kube-apiserver/main.go": program,
		"kubernetes/cmd/kubectl/main.go":        program,
		"etcd/go.mod":                           "module go.etcd.io/etcd/server/v3\n\ngo 1.26.0\n",
		"etcd/main.go":                          "package main\n\nfunc main() {}\n",
		"component-base/go.mod":                 "module k8s.io/component-base\n\ngo 1.26.0\n",
		"component-base/version/version.go":     version,
	})
	return folder
}

// archive is a release as envtest publishes it, of programs that print text.
func archive(t *testing.T, text string, programs ...string) []byte {
	t.Helper()
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	files := tar.NewWriter(zip)
	for _, name := range programs {
		script := "#!/bin/sh\nprintf " + text + "\n"
		header := &tar.Header{Name: "controller-tools/envtest/" + name, Mode: 0o755, Size: int64(len(script))}
		if err := files.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(files, script); err != nil {
			t.Fatal(err)
		}
	}
	if err := files.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}

// releases serves an index with one release, and its archive.
func releases(t *testing.T, version string, packed []byte, sum string) *httptest.Server {
	t.Helper()
	var server *httptest.Server
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := fmt.Sprintf("envtest-%s-%s-%s.tar.gz", version, runtime.GOOS, runtime.GOARCH)
		switch r.URL.Path {
		case "/index.yaml":
			fmt.Fprintf(w, "releases:\n  %s:\n    %s:\n      hash: %s\n      selfLink: %s/%[2]s\n", version, name, sum, server.URL)
		case "/" + name:
			_, _ = w.Write(packed)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	return server
}

func says(t *testing.T, program string) string {
	t.Helper()
	output, err := exec.CommandContext(t.Context(), program).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", program, err, output)
	}
	return string(output)
}

func TestAssets(t *testing.T) {
	t.Parallel()
	whole := archive(t, "downloaded", "kube-apiserver", "etcd", "kubectl", "../../evil")
	partial := archive(t, "downloaded", "kube-apiserver", "etcd")
	sum := func(packed []byte) string { return fmt.Sprintf("%x", sha512.Sum512(packed)) }
	for name, test := range map[string]struct {
		version string
		packed  []byte
		sum     string
		want    string // what kube-apiserver says; empty for an error
	}{
		"the pinned release is downloaded":                         {pinned, whole, sum(whole), "downloaded"},
		"another patch release of the same minor one does as well": {"v1.99.0", whole, sum(whole), "downloaded"},
		"another minor release does not: it is built":              {"v1.98.3", whole, sum(whole), pinned},
		"an archive with another hash is not used: it is built":    {pinned, whole, sum(partial), pinned},
		"an archive that is none is not used: it is built":         {pinned, []byte("hello"), sum([]byte("hello")), pinned},
		"an archive without kubectl is an error":                   {pinned, partial, sum(partial), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := releases(t, test.version, test.packed, test.sum)
			cache := testenv.AssetCache{Folder: t.TempDir(), Module: buildable(t), IndexURL: server.URL + "/index.yaml"}
			folder, err := cache.Get(t.Context(), t.Output())
			if test.want == "" {
				if err == nil {
					t.Fatal("an incomplete archive was taken for complete")
				}
				if left, _ := filepath.Glob(cache.Folder + "/*/*"); len(left) > 0 {
					t.Errorf("a failure left %v in the cache", left)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := says(t, filepath.Join(folder, "kube-apiserver")); got != test.want {
				t.Errorf("kube-apiserver says %q, want %q", got, test.want)
			}
			if files, _ := filepath.Glob(folder + "/*"); len(files) != 3 {
				t.Errorf("the folder holds %v, want the three programs", files)
			}
		})
	}
}

func TestAssetsAreProvidedOnceForProcessesAtOnce(t *testing.T) {
	t.Parallel()
	cache := testenv.AssetCache{Folder: t.TempDir(), Module: buildable(t), IndexURL: "http://127.0.0.1:1/"}
	var progress lockedBuffer
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			if _, err := cache.Get(t.Context(), &progress); err != nil {
				t.Error(err)
			}
		})
	}
	callers.Wait()
	if built := strings.Count(progress.String(), "building etcd..."); built != 1 {
		t.Errorf("built %d times, want once; progress:\n%s", built, progress.String())
	}
}

func TestAssetsThatCannotBeBuiltNameTheReason(t *testing.T) {
	t.Parallel()
	module := buildable(t)
	writeFiles(t, module, map[string]string{"kubernetes/cmd/kubectl/main.go": "package main\n\nfunc main() { nonsense }\n"})
	cache := testenv.AssetCache{Folder: t.TempDir(), Module: module, IndexURL: "http://127.0.0.1:1/"}
	_, err := cache.Get(t.Context(), t.Output())
	if err == nil || !strings.Contains(err.Error(), "building kubectl") || !strings.Contains(err.Error(), "nonsense") {
		t.Fatalf("error %v, want one with the compiler's words", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := cache.Get(ctx, t.Output()); err == nil {
		t.Fatal("a cancelled build succeeded")
	}
}

func TestAssetsVariableThatLeadsNowhereIsAnError(t *testing.T) {
	folder := t.TempDir()
	t.Setenv(testenv.AssetsVariable, folder)
	if _, err := testenv.Assets(t.Context(), t.Output()); err == nil || !strings.Contains(err.Error(), folder) {
		t.Fatalf("error %v, want one that names %s", err, folder)
	}
	for _, name := range []string{"kube-apiserver", "etcd", "kubectl"} {
		program(t, filepath.Join(folder, name), "exit 0")
	}
	if got, err := testenv.Assets(t.Context(), t.Output()); err != nil || got != folder {
		t.Fatalf("assets in %q (%v), want %s", got, err, folder)
	}
}

// lockedBuffer is written to by several goroutines.
type lockedBuffer struct {
	mutex sync.Mutex
	text  strings.Builder
}

func (b *lockedBuffer) Write(text []byte) (int, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.text.Write(text)
}

func (b *lockedBuffer) String() string {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.text.String()
}
