package main

import (
	"context"
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// built is an image in memory and on disk, for all of its platforms.
type built struct {
	ref   string // registry/name:version
	name  string
	index v1.ImageIndex
	boms  []bom
}

// bom is the bill of materials of one platform.
type bom struct {
	platform v1.Platform
	of       v1.Image
	spdx     []byte
}

// build compiles an image's programs for every platform, below dir, and puts them together.
func build(ctx context.Context, cfg config, one image, dir string) (*built, error) {
	b := &built{ref: cfg.registry + "/" + one.name + ":" + cfg.version, name: one.name}
	b.index = mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	var annotations map[string]string
	for _, p := range cfg.platform {
		programs, err := compile(ctx, cfg.source, one, p, dir)
		if err != nil {
			return nil, err
		}
		c := content{image: one, version: cfg.version, platform: p, programs: programs}
		img, spdx, err := assemble(c)
		if err != nil {
			return nil, err
		}
		b.boms = append(b.boms, bom{platform: p, of: img, spdx: spdx})
		b.index = mutate.AppendManifests(b.index, mutate.IndexAddendum{
			Add: img, Descriptor: v1.Descriptor{MediaType: types.OCIManifestSchema1, Platform: &p},
		})
		annotations = c.annotations()
	}
	var ok bool
	if b.index, ok = mutate.Annotations(b.index, annotations).(v1.ImageIndex); !ok {
		panic("BUG: an annotated index is no index")
	}
	return b, nil
}

// program is a static binary.
type program struct {
	name string
	data []byte
	info *buildinfo.BuildInfo
}

// compile runs go build for one platform.
func compile(ctx context.Context, source string, one image, p v1.Platform, dir string) ([]program, error) {
	out := filepath.Join(dir, one.name, p.Architecture)
	if err := os.MkdirAll(out, 0o755); err != nil {
		return nil, err
	}
	args := []string{"build", "-trimpath", "-ldflags=-s -w", "-o", out + "/"}
	for _, name := range one.programs {
		args = append(args, "./cmd/"+name)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+p.Architecture) //nolint:forbidigo // the environment is go's, not ours
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build for %s: %w\n%s", p.Architecture, err, text)
	}
	var all []program
	for _, name := range one.programs {
		made, err := read(filepath.Join(out, name), name)
		if err != nil {
			return nil, err
		}
		all = append(all, made)
	}
	return all, nil
}

// read reads a binary, and refuses one that wants an interpreter: FROM scratch has none.
func read(path, name string) (program, error) {
	e, err := elf.Open(path)
	if err != nil {
		return program{}, err
	}
	defer e.Close()
	for _, p := range e.Progs {
		if p.Type == elf.PT_INTERP {
			return program{}, errors.New(name + " is not static")
		}
	}
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return program{}, err
	}
	data, err := os.ReadFile(path)
	return program{name: name, data: data, info: info}, err
}

// setting is what the build recorded under key.
func (p program) setting(key string) string {
	for _, s := range p.info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

// created is the commit's time; the epoch where the build knows none.
func created(programs []program) time.Time {
	at, err := time.Parse(time.RFC3339, programs[0].setting("vcs.time"))
	if err != nil {
		return time.Unix(0, 0).UTC()
	}
	return at.UTC()
}
