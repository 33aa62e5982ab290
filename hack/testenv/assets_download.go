package testenv

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

const (
	// reachLimit bounds the request that tells whether downloads can be had here at all.
	reachLimit = 5 * time.Second
	// downloadLimit bounds the archive; a line that is slower than that is not quicker than building.
	downloadLimit = 5 * time.Minute
	// maxArchive bounds the archive, and each program in it; they have about 100 MB.
	maxArchive = 1 << 30
)

// assetIndex is the list that envtest publishes: version, then archive name, then where it is.
type assetIndex struct {
	Releases map[string]map[string]assetArchive `json:"releases"`
}

type assetArchive struct {
	// Hash is the archive's SHA-512 in hex.
	Hash string `json:"hash"`
	// SelfLink is the archive's URL.
	SelfLink string `json:"selfLink"`
}

// download puts the released programs of version into folder.
func (c AssetCache) download(ctx context.Context, version, folder string, progress io.Writer) (err error) {
	text, err := httpGet(ctx, c.IndexURL, reachLimit)
	if err != nil {
		return err
	}
	var index assetIndex
	if err := yaml.Unmarshal(text, &index); err != nil {
		return fmt.Errorf("reading the list of released archives: %w", err)
	}
	archive, err := index.find(version)
	if err != nil {
		return err
	}
	watch := startWatch(progress, "downloading Kubernetes "+version)
	defer func() { watch.done(err) }()
	packed, err := httpGet(ctx, archive.SelfLink, downloadLimit)
	if err != nil {
		return err
	}
	if sum := sha512.Sum512(packed); !strings.EqualFold(hex.EncodeToString(sum[:]), archive.Hash) {
		return fmt.Errorf("%s does not have the SHA-512 that the list of released archives gives", archive.SelfLink)
	}
	return unpack(packed, folder)
}

// find returns the archive of version for this machine, or of the newest release of the same minor version: not every
// patch release is published there.
func (i assetIndex) find(version string) (assetArchive, error) {
	minor := version[:strings.LastIndex(version, ".")+1]
	releases := []string{version}
	for patch := 99; patch >= 0; patch-- { // no minor version of Kubernetes has had more patch releases than that
		releases = append(releases, fmt.Sprintf("%s%d", minor, patch))
	}
	suffix := fmt.Sprintf("-%s-%s.tar.gz", runtime.GOOS, runtime.GOARCH)
	for _, release := range releases {
		for name, archive := range i.Releases[release] {
			if strings.HasSuffix(name, suffix) {
				return archive, nil
			}
		}
	}
	return assetArchive{}, fmt.Errorf("no archive of Kubernetes %s for %s/%s is published", version, runtime.GOOS, runtime.GOARCH)
}

func httpGet(ctx context.Context, url string, limit time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("downloading: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("downloading: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("downloading %s: %s", url, response.Status)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxArchive))
	if err != nil {
		return nil, fmt.Errorf("downloading %s: %w", url, err)
	}
	return body, nil
}

// unpack takes the programs, and nothing else, out of a .tar.gz.
func unpack(packed []byte, folder string) error {
	stream, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return fmt.Errorf("unpacking the archive: %w", err)
	}
	archive := tar.NewReader(stream)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("unpacking the archive: %w", err)
		}
		name := path.Base(header.Name)
		if header.Typeflag != tar.TypeReg || !slices.Contains(assetPrograms, name) {
			continue
		}
		if err := writeProgram(filepath.Join(folder, name), io.LimitReader(archive, maxArchive)); err != nil {
			return err
		}
	}
}

func writeProgram(file string, content io.Reader) error {
	const forAllToRun = 0o755
	program, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, forAllToRun)
	if err != nil {
		return fmt.Errorf("unpacking the archive: %w", err)
	}
	_, err = io.Copy(program, content)
	if err = errors.Join(err, program.Close()); err != nil {
		return fmt.Errorf("unpacking %s: %w", filepath.Base(file), err)
	}
	return nil
}
