package files

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tulle-mesh/tulle/controller/state"
	"github.com/tulle-mesh/tulle/controller/status"
	"github.com/tulle-mesh/tulle/internal/leak"
	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/scripts"
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
	scripts.All(t, *update, func(t *testing.T, a *scripts.Archive) {
		s := &script{t: t, archive: a, dir: t.TempDir()}
		a.Run(s.run)
	})
}

type script struct {
	t        *testing.T
	archive  *scripts.Archive
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
		if err := os.WriteFile(to, s.archive.File(s.t, args[1]), 0o600); err != nil {
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
		s.archive.Compare(s.t, args[1], b.String())
		if p := s.r.cfg.Store.Audit(); p != nil {
			s.t.Errorf("audit: %v", p)
		}
	case "reports":
		var b bytes.Buffer
		for _, r := range s.set.All() {
			fmt.Fprintf(&b, "%s: %s\n", r.Severity, strings.ReplaceAll(r.String(), s.dir, "DIR"))
		}
		s.archive.Compare(s.t, args[1], b.String())
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
