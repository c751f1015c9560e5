package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// content is what goes into the image of one platform.
type content struct {
	image    image
	version  string
	platform v1.Platform
	programs []program
}

// bomPath is where an image has its own bill of materials.
const bomPath = "usr/share/doc/tulle/sbom.spdx.json"

// bomLabel names that path in an image's labels.
const bomLabel = "dev.tulle.sbom"

// assemble makes the image of one platform, and returns its bill of materials too.
func assemble(c content) (v1.Image, []byte, error) {
	spdx, err := spdx(c)
	if err != nil {
		return nil, nil, err
	}
	archive, err := c.root(spdx)
	if err != nil {
		return nil, nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(archive)), nil
	}, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, nil, err
	}
	at := v1.Time{Time: created(c.programs)}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err = mutate.ConfigFile(img, &v1.ConfigFile{
		OS: c.platform.OS, Architecture: c.platform.Architecture, Variant: c.platform.Variant, Created: at,
		RootFS: v1.RootFS{Type: "layers"},
		Config: v1.Config{
			User:       fmt.Sprintf("%d:%d", c.image.user, c.image.user),
			Entrypoint: []string{"/" + c.programs[0].name},
			WorkingDir: "/",
			Labels:     c.labels(),
		},
	})
	if err != nil {
		return nil, nil, err
	}
	img, err = mutate.Append(img, mutate.Addendum{
		Layer: layer, MediaType: types.OCILayer,
		History: v1.History{Created: at, CreatedBy: "make images", Comment: "static binaries, FROM scratch"},
	})
	if err != nil {
		return nil, nil, err
	}
	annotated, ok := mutate.Annotations(img, c.annotations()).(v1.Image)
	if !ok {
		panic("BUG: an annotated image is no image")
	}
	return annotated, spdx, nil
}

// annotations are the labels that OCI defines, which indexes and registries show.
func (c content) annotations() map[string]string {
	const home = "https://github.com/tulle-mesh/tulle"
	a := map[string]string{
		"org.opencontainers.image.title":         c.image.name,
		"org.opencontainers.image.description":   c.image.title,
		"org.opencontainers.image.version":       c.version,
		"org.opencontainers.image.created":       created(c.programs).Format(time.RFC3339),
		"org.opencontainers.image.licenses":      "Apache-2.0",
		"org.opencontainers.image.vendor":        "The Tulle authors",
		"org.opencontainers.image.source":        home,
		"org.opencontainers.image.url":           home,
		"org.opencontainers.image.documentation": home + "/blob/main/docs/install.md",
	}
	if r := c.programs[0].setting("vcs.revision"); r != "" {
		a["org.opencontainers.image.revision"] = r
	}
	return a
}

// labels are the annotations, and where the bill of materials is.
func (c content) labels() map[string]string {
	l := c.annotations()
	l[bomLabel] = "/" + bomPath
	return l
}

// file is an entry of the root.
type file struct {
	name string
	mode int64
	data []byte // nil is a directory
}

// root is the layer: the programs, the user that they run as and the bill of materials.
func (c content) root(spdx []byte) ([]byte, error) {
	user := c.image.user
	files := []file{
		{"etc/", 0o755, nil},
		{"etc/passwd", 0o644, fmt.Appendf(nil, "root:x:0:0:root:/:/sbin/nologin\ntulle:x:%d:%d:%s:/:/sbin/nologin\n", user, user, c.image.name)},
		{"etc/group", 0o644, fmt.Appendf(nil, "root:x:0:\ntulle:x:%d:\n", user)},
	}
	for _, p := range c.programs {
		files = append(files, file{p.name, 0o755, p.data})
	}
	files = append(files,
		file{"usr/", 0o755, nil}, file{"usr/share/", 0o755, nil}, file{"usr/share/doc/", 0o755, nil}, file{"usr/share/doc/tulle/", 0o755, nil},
		file{bomPath, 0o644, spdx})
	var out bytes.Buffer
	if err := writeTar(&out, files, created(c.programs)); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// writeTar writes an archive whose bytes depend on nothing but its arguments.
func writeTar(w io.Writer, files []file, at time.Time) error {
	t := tar.NewWriter(w)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.data)), ModTime: at, Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}
		if f.data == nil {
			h.Typeflag = tar.TypeDir
		}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := t.Write(f.data); err != nil {
			return err
		}
	}
	return t.Close()
}
