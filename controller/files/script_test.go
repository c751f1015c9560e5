package files

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/tulle-mesh/tulle/controller/state"
	"github.com/tulle-mesh/tulle/controller/status"
	"github.com/tulle-mesh/tulle/internal/leak"
	"github.com/tulle-mesh/tulle/internal/mesh"
)

func TestMain(m *testing.M) { leak.Main(m) }

var update = flag.Bool("update", false, "write what came out into testdata")

// TestScripts plays testdata/*.txtar. A line that begins with a command is run, every other line of
// the head is text:
//
//	> write shop.yaml [as other.yaml]   puts a file of the archive into the directory
//	> remove shop.yaml                  takes it away
//	> read                              looks at the directory
//	> tables NAME                       compares what proxies are told with a file of the archive
//	> reports NAME                      the same with the reports
//	> settings PLAINTEXT                switches mutual TLS off; before anything else
//	> synced / > not synced             says whether the store is
func TestScripts(t *testing.T) {
	scripts, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, path := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			s := &script{t: t, archive: a, dir: t.TempDir()}
			for line := range strings.Lines(string(a.Comment)) {
				if command, ok := strings.CutPrefix(line, "> "); ok {
					s.run(strings.Fields(command))
				}
			}
			if *update {
				if err := os.WriteFile(path, txtar.Format(a), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

type script struct {
	t        *testing.T
	archive  *txtar.Archive
	dir      string
	settings state.Settings
	set      *status.Set
	r        *Reflector
}

func (s *script) run(args []string) {
	s.t.Helper()
	path := func(name string) string { return filepath.Join(s.dir, filepath.FromSlash(name)) }
	switch command := args[0]; command {
	case "settings":
		s.settings.NoMutualTLS = true
	case "write":
		to := path(args[len(args)-1])
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			s.t.Fatal(err)
		}
		if err := os.WriteFile(to, s.file(args[1]).Data, 0o600); err != nil {
			s.t.Fatal(err)
		}
	case "remove":
		if err := os.Remove(path(args[1])); err != nil {
			s.t.Fatal(err)
		}
	case "read":
		s.read()
	case "tables":
		var b bytes.Buffer
		s.r.cfg.Store.Snapshot().Dump(&b)
		s.compare(args[1], b.Bytes())
		if p := s.r.cfg.Store.Audit(); p != nil {
			s.t.Errorf("audit: %v", p)
		}
	case "reports":
		var b bytes.Buffer
		for _, r := range s.set.All() {
			fmt.Fprintf(&b, "%s: %s\n", r.Severity, strings.ReplaceAll(r.String(), s.dir, "DIR"))
		}
		s.compare(args[1], b.Bytes())
	case "synced", "not":
		select {
		case <-s.r.cfg.Store.Synced():
			if command == "not" {
				s.t.Error("synced")
			}
		default:
			if command == "synced" {
				s.t.Error("not synced")
			}
		}
	default:
		s.t.Fatalf("no command %q", command)
	}
}

func (s *script) read() {
	if s.r == nil {
		s.set = status.NewSet(nil)
		s.settings.Default = mesh.DefaultAllUnauthenticated
		s.r = New(Config{Dir: s.dir, Store: state.NewStore(s.settings), Reports: s.set})
	}
	s.r.scan(nil, true, nil)
}

func (s *script) file(name string) *txtar.File {
	for i := range s.archive.Files {
		if s.archive.Files[i].Name == name {
			return &s.archive.Files[i]
		}
	}
	s.archive.Files = append(s.archive.Files, txtar.File{Name: name})
	return &s.archive.Files[len(s.archive.Files)-1]
}

func (s *script) compare(name string, got []byte) {
	s.t.Helper()
	f := s.file(name)
	if *update {
		f.Data = got
		return
	}
	if diff := cmp.Diff(string(f.Data), string(got)); diff != "" {
		s.t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}
