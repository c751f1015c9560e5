package main

import (
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// save writes the archive NAME.tar and the bills of materials NAME-ARCHITECTURE.spdx.json into dir, and
// returns the archive's path.
func (b *built) save(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	for _, one := range b.boms {
		name := b.name + "-" + one.platform.Architecture + ".spdx.json"
		if err := os.WriteFile(filepath.Join(dir, name), one.spdx, 0o644); err != nil {
			return "", err
		}
	}
	tree, err := os.MkdirTemp(dir, "."+b.name+"-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tree)
	if err := b.layout(tree); err != nil {
		return "", err
	}
	path := filepath.Join(dir, b.name+".tar")
	return path, archive(tree, path)
}

// layout writes the OCI image layout, whose one entry is named as containerd's importer wants it.
func (b *built) layout(dir string) error {
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	_, tag := splitRef(b.ref)
	return p.AppendIndex(b.index, layout.WithAnnotations(map[string]string{
		"io.containerd.image.name":          b.ref,
		"org.opencontainers.image.ref.name": tag,
	}))
}

// archive puts the files of a directory into an archive, sorted and without their times.
func archive(dir, path string) error {
	var files []file
	err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		if d.IsDir() {
			files = append(files, file{rel + "/", 0o755, nil})
			return nil
		}
		data, err := os.ReadFile(name)
		files = append(files, file{rel, 0o644, data})
		return err
	})
	if err != nil {
		return err
	}
	slices.SortFunc(files, func(a, b file) int {
		switch {
		case a.name < b.name:
			return -1
		case a.name > b.name:
			return 1
		}
		return 0
	})
	// Beside the old one and then in its place: nobody loads half an archive.
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := writeTar(f, files, time.Unix(0, 0)); err != nil {
		f.Close()
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
