package house

import (
	"go/ast"
	"os"
	"regexp"
	"strings"
	"testing"
)

// citedTest is how docs/attacks.md names a test: its directory and its function.
var citedTest = regexp.MustCompile("`([a-z0-9/]+):((?:Test|Fuzz)\\w+)`")

// TestAttacksAreHeldByTests: what docs/attacks.md says of an attack is worth its test.
func TestAttacksAreHeldByTests(t *testing.T) {
	raw, err := os.ReadFile(root + "/docs/attacks.md")
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, f := range mustGoFiles(t) {
		if !f.test {
			continue
		}
		for _, d := range f.ast.Decls {
			if fn, isFunc := d.(*ast.FuncDecl); isFunc && fn.Recv == nil {
				have[f.dir()+":"+fn.Name.Name] = true
			}
		}
	}
	rows := 0
	for line := range strings.Lines(string(raw)) {
		all := citedTest.FindAllStringSubmatch(line, -1)
		if strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| attack ") && !strings.HasPrefix(line, "| --- ") {
			rows++
			if len(all) == 0 {
				t.Errorf("docs/attacks.md: no test holds %.60s", line)
			}
		}
		for _, m := range all {
			if name := m[1] + ":" + m[2]; !have[name] {
				t.Errorf("docs/attacks.md names %s, which is gone: an attack that no test holds is open again", name)
			}
		}
	}
	if rows < 20 {
		t.Errorf("found %d attacks in docs/attacks.md: its form has changed", rows)
	}
}
