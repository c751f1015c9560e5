package house

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// linkedPrograms have a committed list of what is linked into them, cmd/<name>/depaware.txt, and a
// bound on their size.
var linkedPrograms = []struct {
	name     string
	mostMiB  float64
	whyBound string
}{
	{"tulle-proxy", 16, "its pages are memory on every node; it began with 14.7 MiB, most of which are grpc-go, crypto/tls, zap and client_golang"},
}

func TestLinkedPackagesAreKnown(t *testing.T) {
	for _, program := range linkedPrograms {
		dir := filepath.Join(root, "cmd", program.name)
		if _, err := os.Stat(filepath.Join(dir, "main.go")); errors.Is(err, fs.ErrNotExist) {
			t.Logf("%s has no main.go", program.name)
			continue
		}
		pkgs, err := goList("-deps", "-json=ImportPath,Imports,Standard", "./cmd/"+program.name)
		if err != nil {
			t.Errorf("%s: %v", program.name, err)
			continue
		}
		got := linkedNames(pkgs)
		list := filepath.Join(dir, "depaware.txt")
		if *update {
			head := "Packages linked into " + program.name + " on Linux, the standard library's internals aside.\n" +
				"A test compares; after a change that is wanted: go test ./internal/house -run Linked -update\n\n"
			write(t, list, head+strings.Join(got, "\n")+"\n")
			continue
		}
		raw, err := os.ReadFile(list)
		if err != nil {
			t.Errorf("%v: write it with -update", err)
			continue
		}
		_, body, _ := strings.Cut(string(raw), "\n\n")
		want := strings.Fields(body)
		for _, p := range got {
			if !slices.Contains(want, p) {
				t.Errorf("%s now links %s, which is not in depaware.txt: each package is memory on every node and "+
					"trust in its authors; if it is wanted, -update and say why in the commit", program.name, p)
			}
		}
		for _, p := range want {
			if !slices.Contains(got, p) {
				t.Errorf("%s no longer links %s: take it out of depaware.txt (-update)", program.name, p)
			}
		}
	}
}

func linkedNames(pkgs []listed) []string {
	var names []string
	for _, p := range pkgs {
		if p.Standard && (strings.Contains(p.ImportPath, "internal") || strings.HasPrefix(p.ImportPath, "vendor/")) {
			continue // differs between Go's minor releases
		}
		names = append(names, p.ImportPath)
	}
	slices.Sort(names)
	return names
}

func TestSizeOfPrograms(t *testing.T) {
	for _, program := range linkedPrograms {
		if _, err := os.Stat(filepath.Join(root, "cmd", program.name, "main.go")); errors.Is(err, fs.ErrNotExist) {
			t.Logf("%s has no main.go", program.name)
			continue
		}
		out := filepath.Join(t.TempDir(), program.name)
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, "./cmd/"+program.name)
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("build %s: %v\n%s", program.name, err, text)
			continue
		}
		info, err := os.Stat(out)
		if err != nil {
			t.Fatal(err)
		}
		mib := float64(info.Size()) / (1 << 20)
		t.Logf("%s: %.1f MiB", program.name, mib)
		if mib > program.mostMiB {
			t.Errorf("%s is %.1f MiB, over %g: %s", program.name, mib, program.mostMiB, program.whyBound)
		}
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(os.Stderr, "wrote", name)
}
