// Package scripts plays tests that are written as txtar archives: what is done in the head, what goes in
// and what must come out as files.
package scripts

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

// Archive is one script while it is played.
type Archive struct {
	archive *txtar.Archive
	update  bool
}

// All plays every testdata/*.txtar as a test of its file's name. With update, what came out replaces what
// the archives said.
func All(t *testing.T, update bool, play func(*testing.T, *Archive)) {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			parsed, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			play(t, &Archive{archive: parsed, update: update})
			if !update {
				return
			}
			if err := os.WriteFile(path, txtar.Format(parsed), 0o600); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Run has run do the head's commands, in their order. A line that begins with "> " is one, in words;
// every other line is text.
func (a *Archive) Run(run func(words []string)) {
	for line := range strings.Lines(string(a.archive.Comment)) {
		if command, ok := strings.CutPrefix(line, "> "); ok {
			run(strings.Fields(command))
		}
	}
}

// File is the content of one of the archive's files; one that it lacks fails the test.
func (a *Archive) File(t *testing.T, name string) []byte {
	t.Helper()
	f := a.file(name)
	if f == nil {
		t.Fatalf("the archive has no file %q", name)
	}
	return f.Data
}

// Compare fails the test when got is not what one of the archive's files says.
func (a *Archive) Compare(t *testing.T, name, got string) {
	t.Helper()
	f := a.file(name)
	switch {
	case a.update && f == nil:
		a.archive.Files = append(a.archive.Files, txtar.File{Name: name, Data: []byte(got)})
	case a.update:
		f.Data = []byte(got)
	case f == nil:
		t.Errorf("the archive has no file %q; got:\n%s", name, got)
	default:
		if diff := cmp.Diff(string(f.Data), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func (a *Archive) file(name string) *txtar.File {
	for i := range a.archive.Files {
		if a.archive.Files[i].Name == name {
			return &a.archive.Files[i]
		}
	}
	return nil
}
