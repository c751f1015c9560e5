package house

import (
	"cmp"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const behaviour = root + "/docs/behaviour.md"

var (
	ruleDefined = regexp.MustCompile(`(?m)^(?:- |\| )(R\d+\.\d+) `)
	ruleCited   = regexp.MustCompile(`\bR\d+\.\d+\b`)
)

// TestEveryRuleIsCited holds docs/behaviour.md and the tests together. Rules that no test cites are
// listed in uncited.txt, a list that may only shrink.
func TestEveryRuleIsCited(t *testing.T) {
	raw, err := os.ReadFile(behaviour)
	if err != nil {
		t.Fatal(err)
	}
	var rules []string
	for _, m := range ruleDefined.FindAllStringSubmatch(string(raw), -1) {
		if slices.Contains(rules, m[1]) {
			t.Errorf("docs/behaviour.md defines %s twice", m[1])
		}
		rules = append(rules, m[1])
	}
	if len(rules) < 60 {
		t.Fatalf("found %d rules in docs/behaviour.md: its form has changed", len(rules))
	}
	cited := citations(t)
	for rule, where := range cited {
		if !slices.Contains(rules, rule) {
			t.Errorf("%s cites %s, which docs/behaviour.md does not have", where, rule)
		}
	}
	var uncited []string
	for _, rule := range rules {
		if cited[rule] == "" {
			uncited = append(uncited, rule)
		}
	}
	slices.SortFunc(uncited, compareRules)
	if *update {
		write(t, "uncited.txt", strings.Join(uncited, "\n")+"\n")
		return
	}
	raw, err = os.ReadFile("uncited.txt")
	if err != nil {
		t.Fatal(err)
	}
	listed := strings.Fields(string(raw))
	for _, rule := range uncited {
		if !slices.Contains(listed, rule) {
			t.Errorf("no test cites %s any more: a rule that no test holds is a wish; the list of them may only shrink", rule)
		}
	}
	for _, rule := range listed {
		if !slices.Contains(uncited, rule) {
			t.Errorf("%s is cited by %s: take it out of uncited.txt (go test ./internal/house -run Cited -update), so that it stays cited",
				rule, cited[rule])
		}
	}
}

// citations finds the rules that tests name, in Go and in the text files that tests read.
func citations(t *testing.T) map[string]string {
	t.Helper()
	cited := map[string]string{}
	note := func(name string, src []byte) {
		for _, rule := range ruleCited.FindAllString(string(src), -1) {
			cited[rule] = name
		}
	}
	for _, f := range mustGoFiles(t) {
		if f.test && !strings.HasPrefix(f.path, "internal/house/") {
			note(f.path, f.src)
		}
	}
	for _, pattern := range []string{"*/testdata/*.txt*", "*/*/testdata/*.txt*", "*/*/*/testdata/*.txt*", "test/sim/*.go", "test/oracle/*.go"} {
		names, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			src, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			note(strings.TrimPrefix(filepath.ToSlash(name), root+"/"), src)
		}
	}
	return cited
}

// compareRules orders R2.1 before R10.1.
func compareRules(a, b string) int {
	number := func(s string) (section, rule int) {
		x, y, _ := strings.Cut(s[1:], ".")
		section, _ = strconv.Atoi(x)
		rule, _ = strconv.Atoi(y)
		return
	}
	as, ar := number(a)
	bs, br := number(b)
	return cmp.Or(cmp.Compare(as, bs), cmp.Compare(ar, br))
}
