package house

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// nested are the modules that ./... does not reach, with the reason for each. make test and make
// lint walk them by the same pattern as the Makefile's NESTED.
var nested = map[string]string{
	"bench":            "its peers and judges are nothing that Tulle depends on",
	"tools":            "linters and generators bring hundreds of modules along",
	"test/cluster":     "a real Kubernetes to test against",
	"test/conformance": "the Gateway API's suite pins its own versions",
	"test/e2e":         "it needs the test bed, which Tulle itself does not",
}

// unwalked are nested modules that make test and make lint leave out, with the reason for each.
var unwalked = map[string]string{
	"test/cluster/kube":    "one main.go in front of all of Kubernetes: minutes to compile; make cluster builds it",
	"test/cluster/coredns": "one main.go in front of CoreDNS, which wants another client-go; make cluster builds it",
}

func TestNestedModulesAreListed(t *testing.T) {
	err := walk(func(name string) error {
		if path.Base(name) != "go.mod" || name == "go.mod" {
			return nil
		}
		dir := path.Dir(name)
		if unwalked[dir] != "" {
			return nil
		}
		if nested[dir] == "" {
			t.Errorf("%s is a module of its own that internal/house does not list: ./... passes it by, so that somebody "+
				"must say why it is one", dir)
		}
		if strings.Count(dir, "/") > 1 {
			t.Errorf("%s lies too deep for the Makefile's NESTED: nothing would test it", dir)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if mk := read(t, "Makefile"); strings.Count(mk, "$(NESTED)") < 2 {
		t.Error("the Makefile's test and lint no longer walk $(NESTED)")
	}
}

var (
	link       = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	makeTarget = regexp.MustCompile("`make ([a-z][a-z0-9-]*)")
	target     = regexp.MustCompile(`(?m)^([a-z][a-z0-9-]*):`)
)

func documents(t *testing.T) []string {
	t.Helper()
	var names []string
	err := walk(func(name string) error {
		if strings.HasSuffix(name, ".md") {
			names = append(names, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestLinksInDocumentsLead(t *testing.T) {
	for _, name := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(read(t, name), -1) {
			to, _, _ := strings.Cut(m[1], "#")
			if to == "" || strings.Contains(to, "://") || strings.HasPrefix(to, "mailto:") {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, path.Dir(name), to)); err != nil {
				t.Errorf("%s links to %s, which is not there: a reader ends at nothing", name, to)
			}
		}
	}
}

// TestDocumentedMakeTargetsExist reads what a newcomer would type.
func TestDocumentedMakeTargetsExist(t *testing.T) {
	var have []string
	for _, m := range target.FindAllStringSubmatch(read(t, "Makefile"), -1) {
		have = append(have, m[1])
	}
	for _, name := range []string{"README.md", "CONTRIBUTING.md"} {
		found := makeTarget.FindAllStringSubmatch(read(t, name), -1)
		if len(found) == 0 {
			t.Errorf("%s names no make target", name)
		}
		for _, m := range found {
			if !slices.Contains(have, m[1]) {
				t.Errorf("%s says `make %s`, which the Makefile does not have", name, m[1])
			}
		}
	}
}

// TestContinuousIntegrationRunsTheReadmesCommands holds .ci/run to what people are told to run.
func TestContinuousIntegrationRunsTheReadmesCommands(t *testing.T) {
	ci := read(t, ".ci/run")
	for _, command := range []string{"make lint", "make generate-check", "make test", "make build"} {
		if !strings.Contains(ci, command) {
			t.Errorf(".ci/run does not run %s", command)
		}
	}
	info, err := os.Stat(filepath.Join(root, ".ci/run"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode()&0o111 == 0 {
		t.Error(".ci/run is not executable")
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// What is built is not kept: a program that was added by mistake stays in the history for ever.
func TestNoProgramIsKept(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "git", "ls-files", "-z")
	cmd.Dir = root
	tracked, err := cmd.Output()
	if err != nil {
		t.Skip("no repository here: ", err) // an archive of the source
	}
	for name := range strings.SplitSeq(string(tracked), "\x00") {
		raw, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			continue // went away while others work, or a link to elsewhere
		}
		if strings.HasPrefix(string(raw), "\x7fELF") || strings.HasPrefix(string(raw), "\xcf\xfa\xed\xfe") {
			t.Errorf("%s is a program: git rm --cached %s", name, name)
		}
	}
}
