package house

import (
	"go/ast"
	"go/types"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/go/packages"
)

// TestTheDataPlaneIsOneThread holds what lets a worker run without locks and lets the simulation
// replay a seed: no goroutine, no lock, no clock of one's own.
func TestTheDataPlaneIsOneThread(t *testing.T) {
	for _, f := range mustGoFiles(t) {
		if !inDataPlane(f) {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				if !f.excused(n.Pos(), "goroutine") {
					t.Errorf("%s:%d: go statement: a worker is one thread of control; hand a step to Worker.Offload", f.path, f.line(n.Pos()))
				}
			case *ast.CallExpr:
				switch name := qualified(f, n.Fun); name {
				case "time.Now", "time.Since", "time.Until", "time.Sleep", "time.After", "time.AfterFunc", "time.NewTimer", "time.NewTicker", "time.Tick":
					if !f.excused(n.Pos(), "clock") {
						t.Errorf("%s:%d: %s: time comes as now mono.Time, once per turn, and timers from the worker's wheel: "+
							"the simulation has a clock of its own", f.path, f.line(n.Pos()), name)
					}
				}
			case *ast.SelectorExpr:
				switch name := qualified(f, n); name {
				case "sync.Mutex", "sync.RWMutex", "sync.Cond", "sync.WaitGroup", "sync.Map", "sync.Pool":
					if !f.excused(n.Pos(), "lock") {
						t.Errorf("%s:%d: %s: connections, pools and estimates belong to one worker; what is shared is "+
							"leased by atomics", f.path, f.line(n.Pos()), name)
					}
				}
			}
			return true
		})
	}
}

// TestNoRangeOverMaps keeps a seed's replay exact: the order of a map changes from run to run.
func TestNoRangeOverMaps(t *testing.T) {
	dirs := slices.DeleteFunc(append(slices.Clone(dataPlane), "proxy/loop"), func(dir string) bool {
		files, _ := filepath.Glob(filepath.Join(root, dir, "*.go"))
		return len(files) == 0
	})
	if len(dirs) == 0 {
		t.Fatal("no data-plane package found")
	}
	patterns := make([]string, len(dirs))
	for i, dir := range dirs {
		patterns[i] = "./" + dir
	}
	loaded, err := packages.Load(&packages.Config{
		Dir:  root,
		Env:  append(os.Environ(), "CGO_ENABLED=0"),
		Mode: packages.NeedName | packages.NeedFiles | packages.NeedSyntax | packages.NeedTypes | packages.NeedTypesInfo | packages.NeedImports,
	}, patterns...)
	if err != nil {
		t.Fatal(err)
	}
	byPath := map[string]*file{}
	for _, f := range mustGoFiles(t) {
		byPath[f.path] = f
	}
	for _, p := range loaded {
		for _, syntax := range p.Syntax {
			ast.Inspect(syntax, func(n ast.Node) bool {
				r, ok := n.(*ast.RangeStmt)
				if !ok || !overMap(p.TypesInfo, r.X) {
					return true
				}
				at := p.Fset.Position(r.Pos())
				name, err := filepath.Rel(mustAbs(t, root), at.Filename)
				if err != nil {
					t.Fatal(err)
				}
				if f := byPath[filepath.ToSlash(name)]; f == nil || f.excuses[at.Line] != "maprange" {
					t.Errorf("%s:%d: range over a map: its order differs from run to run, and a seed of the simulation "+
						"must replay exactly; keep a slice beside the map", name, at.Line)
				}
				return true
			})
		}
	}
}

// overMap reports whether e is a map, or the unordered sequence of one made by package maps.
func overMap(info *types.Info, e ast.Expr) bool {
	if c, ok := ast.Unparen(e).(*ast.CallExpr); ok {
		if sel, ok := c.Fun.(*ast.SelectorExpr); ok {
			if fn, ok := info.Uses[sel.Sel].(*types.Func); ok && fn.Pkg() != nil && fn.Pkg().Path() == "maps" {
				return true
			}
		}
	}
	typ := info.TypeOf(e)
	if typ == nil { // the package does not type-check yet; the compiler says so
		return false
	}
	_, ok := typ.Underlying().(*types.Map)
	return ok
}

func mustAbs(t *testing.T, dir string) string {
	t.Helper()
	abs, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	if abs, err = filepath.EvalSymlinks(abs); err != nil {
		t.Fatal(err)
	}
	return abs
}

// TestForbiddenImportsOfTheDataPlane looks at direct imports: what a package of the data plane
// would call itself.
func TestForbiddenImportsOfTheDataPlane(t *testing.T) {
	everywhere := []struct{ path, reason string }{
		{"net/http", "the engines are written by hand; net/http parses, buffers and starts goroutines on its own terms"},
		{"net/http/httputil", "its ReverseProxy is the thing that Tulle replaces"},
		{"golang.org/x/net/http2", "it is the judge of the engines in tests and so must not be their maker"},
		{"golang.org/x/net/http2/hpack", "it is the judge of the engines in tests and so must not be their maker"},
		{"github.com/valyala/fasthttp", "the engines are written by hand"},
		{"context", "deadlines and cancellation are timers and states of the worker; a context is a goroutine's tool"},
		{"go.uber.org/zap", "the data path counts in plain fields; who watches it logs"},
	}
	pure := []struct{ path, reason string }{
		{"net", "an engine or a decision does no I/O: bytes in, events out (net/netip is fine)"},
		{"os", "an engine or a decision does no I/O and reads no configuration"},
		{"syscall", "sockets belong to proxy/loop"},
		{"golang.org/x/sys/unix", "sockets belong to proxy/loop"},
		{"math/rand", "randomness is injected as *rand.Rand of math/rand/v2: the simulation seeds it"},
		{"crypto/rand", "randomness is injected: the simulation seeds it"},
	}
	impure := []string{"proxy/mtls", "proxy/transport", "proxy/wire"} // crypto/tls wants a net.Conn; wire and transport know errno
	for _, f := range mustGoFiles(t) {
		if !inDataPlane(f) {
			continue
		}
		bans := everywhere
		if !slices.Contains(impure, f.dir()) {
			bans = slices.Concat(everywhere, pure)
		}
		for _, spec := range f.ast.Imports {
			for _, ban := range bans {
				if strings.Trim(spec.Path.Value, `"`) == ban.path {
					t.Errorf("%s:%d imports %s: %s", f.path, f.line(spec.Pos()), ban.path, ban.reason)
				}
			}
		}
	}
}
