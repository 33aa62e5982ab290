package onenode

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/ens-operator/ens-operator/hack/cluster/image"
	"github.com/ens-operator/ens-operator/hack/testenv"
)

const (
	pauseImage = "localhost/pause:1"
	namesImage = "localhost/coredns:1"
)

// ownImages are what every cluster needs. Both are built here, since nothing can be pulled.
var ownImages = []struct {
	reference string
	wrapper   testenv.Wrapper
}{
	{pauseImage, testenv.Wrapper{Name: "pause", Module: filepath.Join("hack", "cluster", "pause"), Package: ".", LinkerFlags: "-s -w"}},
	{namesImage, testenv.Wrapper{Name: "coredns", Module: filepath.Join("hack", "cluster", "coredns"), Package: ".", LinkerFlags: "-s -w"}},
}

func (c *Cluster) importOwnImages(ctx context.Context) error {
	for _, own := range ownImages {
		program, err := own.wrapper.Program(ctx, c.progress)
		if err != nil {
			return err
		}
		archive := c.path("images", own.wrapper.Name+".tar")
		if err := image.Write(archive, own.reference, program); err != nil {
			return err
		}
		if err := c.Import(ctx, archive); err != nil {
			return err
		}
	}
	return nil
}

// Import makes the images in an archive known to the node. If the archive does not name them, they are named base and the
// tag that stands in it.
func (c *Cluster) Import(ctx context.Context, archive string, base ...string) error {
	arguments := []string{"images", "import"}
	for _, name := range base {
		arguments = append(arguments, "--base-name", name)
	}
	if err := c.ctr(ctx, append(arguments, archive)...); err != nil {
		return fmt.Errorf("importing %s: %w", filepath.Base(archive), err)
	}
	return nil
}
