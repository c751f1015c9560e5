package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// source copies the files that a release changes.
func source(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, pattern := range append([]string{"internal/version/VERSION", "CHANGELOG.md"}, repeats...) {
		files, err := filepath.Glob(filepath.Join("../..", pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no file: %v", pattern, err)
		}
		for _, from := range files {
			name, err := filepath.Rel("../..", from)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := os.ReadFile(from)
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, name), string(raw))
		}
	}
	// Whatever stands in the tree, the test begins with a version in the making.
	version := filepath.Join(dir, "internal/version/VERSION")
	if old := strings.TrimSpace(read(t, version)); !strings.HasSuffix(old, "-dev") {
		if err := run([]string{"-source", dir, "9.9.9-dev"}, io.Discard, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func read(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestAReleaseAndTheWorkAfterIt moves the real files to a release and on.
func TestAReleaseAndTheWorkAfterIt(t *testing.T) {
	dir := source(t)
	working := strings.TrimSpace(read(t, filepath.Join(dir, "internal/version/VERSION")))
	number := strings.TrimSuffix(working, "-dev")
	day := time.Date(2026, 12, 1, 23, 0, 0, 0, time.UTC)
	for _, step := range []struct{ to, gone, heading string }{
		{number, working, "## " + number + " - 2026-12-01\n"},
		{"77.0.0-dev", "", "## 77.0.0 - not released yet\n\n## " + number + " - 2026-12-01\n"},
	} {
		if err := run([]string{"-source", dir, step.to}, io.Discard, day); err != nil {
			t.Fatal(err)
		}
		if got := read(t, filepath.Join(dir, "internal/version/VERSION")); got != step.to+"\n" {
			t.Errorf("VERSION says %q, want %s", got, step.to)
		}
		for _, name := range []string{"charts/tulle/Chart.yaml", "charts/tulle-crds/Chart.yaml", "charts/testdata/default.yaml", "samples/shop/web.yaml"} {
			text := read(t, filepath.Join(dir, name))
			if !strings.Contains(text, step.to) || step.gone != "" && strings.Contains(text, step.gone) {
				t.Errorf("%s does not say %s alone", name, step.to)
			}
		}
		if !strings.Contains(read(t, filepath.Join(dir, "CHANGELOG.md")), "\n"+step.heading) {
			t.Errorf("CHANGELOG.md has no heading %q", step.heading)
		}
	}
}

func TestAReleaseIsOfWhatWasInTheMaking(t *testing.T) {
	for _, c := range []struct {
		old, next string
		want      bool
	}{
		{"0.1.0-dev", "0.1.0", true},
		{"0.1.0", "0.2.0-dev", true},
		{"0.1.0", "0.1.1-dev", true},
		{"0.1.0-dev", "0.2.0", false},
		{"0.1.0-dev", "0.2.0-dev", false},
		{"0.1.0", "0.2.0", false},
		{"0.1.0", "0.1.0-dev", false},
	} {
		if err := allowed(c.old, c.next); (err == nil) != c.want {
			t.Errorf("from %s to %s: %v", c.old, c.next, err)
		}
	}
	for _, bad := range []string{"", "v0.1.0", "0.1", "0.1.0-rc1"} {
		if err := run([]string{bad}, io.Discard, time.Now()); err == nil || !strings.Contains(err.Error(), "want one version") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
