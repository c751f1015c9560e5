package house

import (
	"bytes"
	"go/ast"
	"path"
	"strings"
	"testing"
)

func TestEveryDirectoryHasAPackageComment(t *testing.T) {
	commented, example := map[string]bool{}, map[string]string{}
	for _, f := range mustGoFiles(t) {
		example[f.dir()] = f.path
		if f.ast.Doc != nil && !f.generated && strings.HasPrefix(f.ast.Doc.Text(), wantStart(f)) {
			commented[f.dir()] = true
		}
	}
	for dir, file := range example {
		if !commented[dir] && !allGenerated(t, dir) {
			t.Errorf("%s (%s) has no package comment: whoever opens a directory must learn in a "+
				"sentence what lives there, who owns it, and what it may not do", dir, file)
		}
	}
}

// wantStart is what go doc expects a package comment to begin with.
func wantStart(f *file) string {
	if name := f.ast.Name.Name; name != "main" {
		return "Package " + strings.TrimSuffix(name, "_test")
	}
	return ""
}

func allGenerated(t *testing.T, dir string) bool {
	for _, f := range mustGoFiles(t) {
		if f.dir() == dir && !f.generated {
			return false
		}
	}
	return true
}

func TestFilesAreShort(t *testing.T) {
	const most, mostMain = 800, 120
	for _, f := range mustGoFiles(t) {
		if f.generated {
			continue
		}
		if f.lines > most {
			t.Errorf("%s has %d lines, over %d: a file holds one concept; split it by what its parts are about",
				f.path, f.lines, most)
		}
		if isMain := path.Base(f.path) == "main.go" && strings.HasPrefix(f.path, "cmd/"); isMain && f.lines > mostMain {
			t.Errorf("%s has %d lines, over %d: main turns flags into a Config and calls run; the rest "+
				"cannot be tested where it stands", f.path, f.lines, mostMain)
		}
	}
}

func TestNoInit(t *testing.T) {
	for _, f := range mustGoFiles(t) {
		if f.generated {
			continue
		}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if ok && fn.Recv == nil && fn.Name.Name == "init" && !f.excused(fn.Pos(), "init") {
				t.Errorf("%s:%d: init(): what happens before main can be neither configured nor tested; "+
					"let a constructor do it", f.path, f.line(fn.Pos()))
			}
		}
	}
}

func TestContextBackgroundOnlyInMain(t *testing.T) {
	for _, f := range mustGoFiles(t) {
		if f.test || f.generated || f.ast.Name.Name == "main" {
			continue
		}
		calls(f, func(c *ast.CallExpr, _ []ast.Node) {
			if name := qualified(f, c.Fun); (name == "context.Background" || name == "context.TODO") && !f.excused(c.Pos(), "background") {
				t.Errorf("%s:%d: %s(): a context of one's own does not end with the process; take the caller's",
					f.path, f.line(c.Pos()), name)
			}
		})
	}
}

func TestNoSleepsInTests(t *testing.T) {
	for _, f := range mustGoFiles(t) {
		if !f.test {
			continue
		}
		calls(f, func(c *ast.CallExpr, around []ast.Node) {
			if qualified(f, c.Fun) != "time.Sleep" || inBubble(f, around) || f.excused(c.Pos(), "sleep") {
				return
			}
			t.Errorf("%s:%d: time.Sleep outside testing/synctest: too short on a slow machine, too long on "+
				"every other; wait for the event itself, or say why not with //house:sleep", f.path, f.line(c.Pos()))
		})
	}
}

// inBubble reports whether one of around is a call of synctest.Test.
func inBubble(f *file, around []ast.Node) bool {
	for _, n := range around {
		if c, ok := n.(*ast.CallExpr); ok && strings.HasPrefix(qualified(f, c.Fun), "testing/synctest.") {
			return true
		}
	}
	return false
}

func TestLeavesNoGoroutinesBehind(t *testing.T) {
	starts, tested, checked := map[string]string{}, map[string]bool{}, map[string]bool{}
	for _, f := range mustGoFiles(t) {
		dir := f.dir()
		if f.test {
			tested[dir] = true
			checked[dir] = checked[dir] || bytes.Contains(f.src, []byte("leak.Main(")) || bytes.Contains(f.src, []byte("goleak.Verify"))
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if g, ok := n.(*ast.GoStmt); ok && !f.generated {
				starts[dir] = f.fset.Position(g.Pos()).String()
			}
			return true
		})
	}
	for dir, where := range starts {
		if tested[dir] && !checked[dir] {
			t.Errorf("%s starts goroutines (%s) and none of its tests looks for those that stay: "+
				"func TestMain(m *testing.M) { leak.Main(m) }", dir, where)
		}
	}
}

// calls visits each call of f with the nodes around it, outermost first.
func calls(f *file, visit func(c *ast.CallExpr, around []ast.Node)) {
	var stack []ast.Node
	ast.Inspect(f.ast, func(n ast.Node) bool {
		if n == nil {
			stack = stack[:len(stack)-1]
			return true
		}
		if c, ok := n.(*ast.CallExpr); ok {
			visit(c, stack)
		}
		stack = append(stack, n)
		return true
	})
}

// qualified is the import path and name of what e selects from a package, such as
// "testing/synctest.Test", or "".
func qualified(f *file, e ast.Expr) string {
	sel, ok := e.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	x, ok := sel.X.(*ast.Ident)
	if !ok {
		return ""
	}
	for _, spec := range f.ast.Imports {
		p := strings.Trim(spec.Path.Value, `"`)
		name := path.Base(p)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		if name == x.Name {
			return p + "." + sel.Sel.Name
		}
	}
	return ""
}
