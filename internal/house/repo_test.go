package house

import (
	"bytes"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

var update = flag.Bool("update", false, "write the committed lists anew (uncited.txt, depaware.txt)")

const module = "github.com/tulle-mesh/tulle"

// root is the repository's directory, seen from this package's.
const root = "../.."

// file is one Go file of the repository, nested modules included.
type file struct {
	path      string // from the root, with slashes
	src       []byte
	lines     int
	test      bool
	generated bool
	fset      *token.FileSet
	ast       *ast.File
	excuses   map[int]string // line -> word of a //house: comment that covers it
}

func (f *file) dir() string { return path.Dir(f.path) }

func (f *file) line(p token.Pos) int { return f.fset.Position(p).Line }

// excused reports whether a //house:word comment with a reason covers p's line.
func (f *file) excused(p token.Pos, word string) bool { return f.excuses[f.line(p)] == word }

var excuse = regexp.MustCompile(`^//house:([a-z]+) +\S`)

// goFiles parses the repository once. A file that does not parse is left to the compiler.
var goFiles = sync.OnceValues(func() ([]*file, error) {
	var files []*file
	err := walk(func(name string) error {
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		src, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return err
		}
		f := &file{
			path: name, src: src, test: strings.HasSuffix(name, "_test.go"),
			lines: bytes.Count(src, []byte("\n")), fset: token.NewFileSet(), excuses: map[int]string{},
		}
		f.ast, err = parser.ParseFile(f.fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil
		}
		f.generated = ast.IsGenerated(f.ast)
		for _, group := range f.ast.Comments {
			for _, c := range group.List {
				if m := excuse.FindStringSubmatch(c.Text); m != nil {
					f.excuses[f.line(c.Pos())] = m[1]
					f.excuses[f.line(c.Pos())+1] = m[1]
				}
			}
		}
		files = append(files, f)
		return nil
	})
	return files, err
})

// walk calls visit for each file of the repository, by its path from the root.
func walk(visit func(name string) error) error {
	return filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			if os.IsNotExist(err) { // went away while others work
				return nil
			}
			return err
		}
		name, _ := filepath.Rel(root, p)
		name = filepath.ToSlash(name)
		if !d.IsDir() {
			return visit(name)
		}
		switch base := d.Name(); {
		case name == ".":
			return nil
		case base == "testdata", base == "node_modules", name == "bin", name == "dist",
			strings.HasPrefix(base, ".") && base != ".ci", strings.HasPrefix(base, "_"):
			return filepath.SkipDir
		}
		return nil
	})
}

func mustGoFiles(t *testing.T) []*file {
	t.Helper()
	files, err := goFiles()
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 10 {
		t.Fatalf("found %d Go files below %s: the tests look in the wrong place", len(files), root)
	}
	return files
}

// dataPlane are the packages on the way of a byte through a proxy: what a worker runs. The rooms
// beside the workers (discover, identity, tap, admin, metrics) are ordinary Go; loop is the boundary
// between the two, and share is where workers meet.
var dataPlane = []string{
	"proxy/balance", "proxy/budget", "proxy/chain", "proxy/detect", "proxy/exchange", "proxy/h1", "proxy/h2",
	"proxy/h2/hpack", "proxy/head", "proxy/hop", "proxy/mtls", "proxy/policy", "proxy/route",
	"proxy/slab", "proxy/transport", "proxy/tunnel", "proxy/wire",
}

func inDataPlane(f *file) bool { return slices.Contains(dataPlane, f.dir()) && !f.test }
