// Command images builds Tulle's container images without a container engine: each FROM scratch with
// static binaries, for every platform in one index, as an archive in the OCI layout that containerd,
// kind and k3d load; with -push also to a registry.
//
//	go -C tools run ./images -source .. -out ../dist/images
//	go -C tools run ./images -source .. -platform linux/amd64 -image tulle-proxy -push -registry registry.example.org/mesh
//
// The same source and the same Go give the same bytes: no time but the commit's is in an image.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

// config is what the flags say.
type config struct {
	source   string // directory of Tulle's source
	out      string // directory for the archives
	registry string // what precedes an image's name
	version  string // the tag; empty: the source's
	images   []image
	platform []v1.Platform
	push     bool
	insecure bool // push without TLS
}

func run(ctx context.Context, args []string, out, errs io.Writer) error {
	cfg, err := parse(args, errs)
	if err != nil {
		return err
	}
	if cfg.version == "" {
		data, err := os.ReadFile(filepath.Join(cfg.source, "internal", "version", "VERSION"))
		if err != nil {
			return err
		}
		cfg.version = strings.TrimSpace(string(data))
	}
	dir, err := os.MkdirTemp("", "tulle-images-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, one := range cfg.images {
		b, err := build(ctx, cfg, one, dir)
		if err != nil {
			return fmt.Errorf("%s: %w", one.name, err)
		}
		digest, err := b.index.Digest()
		if err != nil {
			return fmt.Errorf("%s: %w", one.name, err)
		}
		path, err := b.save(cfg.out)
		if err != nil {
			return fmt.Errorf("%s: %w", one.name, err)
		}
		fmt.Fprintf(out, "%s@%s\n\t%s\n", b.ref, digest, path)
		if !cfg.push {
			continue
		}
		if err := b.push(ctx, cfg.insecure); err != nil {
			return fmt.Errorf("push %s: %w", b.ref, err)
		}
		fmt.Fprintf(out, "\tpushed\n")
	}
	return nil
}

// parse reads the flags.
func parse(args []string, errs io.Writer) (config, error) {
	var cfg config
	f := flag.NewFlagSet("images", flag.ContinueOnError)
	f.SetOutput(errs)
	f.StringVar(&cfg.source, "source", ".", "directory of Tulle's source")
	f.StringVar(&cfg.out, "out", "dist/images", "directory for the archives")
	f.StringVar(&cfg.registry, "registry", "ghcr.io/tulle-mesh", "registry and path before an image's name")
	f.StringVar(&cfg.version, "version", "", "tag (default: the source's version)")
	names := f.String("image", "", "images to build, comma-separated (default: all)")
	platforms := f.String("platform", "linux/amd64,linux/arm64", "platforms, comma-separated")
	f.BoolVar(&cfg.push, "push", false, "push to the registry too, with the credentials of docker's configuration")
	f.BoolVar(&cfg.insecure, "insecure", false, "push over plain HTTP")
	if err := f.Parse(args); err != nil {
		return cfg, err
	}
	if f.NArg() > 0 {
		return cfg, fmt.Errorf("%q is no flag", f.Arg(0))
	}
	for one := range strings.SplitSeq(*platforms, ",") {
		p, err := v1.ParsePlatform(one)
		if err != nil || p.OS != "linux" || p.Architecture == "" {
			return cfg, fmt.Errorf("-platform %s: want linux/amd64 or another of Linux", one)
		}
		cfg.platform = append(cfg.platform, *p)
	}
	var err error
	cfg.images, err = chosen(*names)
	return cfg, err
}
