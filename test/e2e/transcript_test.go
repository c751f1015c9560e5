package e2e

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files of testdata")

// transcript is what commands said, compared with a golden file at the end: what an operator reads.
type transcript struct {
	t    *testing.T
	name string
	text strings.Builder
	hide *strings.Replacer
}

// transcript begins one; in it, what differs from run to run is named instead.
func (e *env) transcript(name string) *transcript {
	return &transcript{t: e.t, name: name, hide: strings.NewReplacer(
		e.version, "VERSION", e.namespace, "NAMESPACE", e.Kubeconfig(), "KUBECONFIG",
	)}
}

// What differs from run to run, in its order.
var varying = []struct {
	what *regexp.Regexp
	name string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`), "TIME"},
	{regexp.MustCompile(`(\d+\.){3}\d+:\d+->`), ""},
	{regexp.MustCompile(`https://(\d+\.){3}\d+:\d+`), "SERVER"},
	{regexp.MustCompile(`\b(\d+\.){3}\d+(:\d+)?\b`), "ADDRESS"},
	{regexp.MustCompile(`v1\.34\.\d+`), "v1.34.X"},
	{regexp.MustCompile(`(tulle-(identity|destination|injector))-[0-9a-f]{6,10}-[0-9a-z]{5}`), "$1-POD"},
	{regexp.MustCompile(`/tmp/[^\s"]*`), "FILE"},
	{regexp.MustCompile(`\d+(\.\d+)? (cores?|MiB|GiB|m)\b`), "AMOUNT"},
	{regexp.MustCompile(`\?timeout=\d+s`), ""},
	{regexp.MustCompile(`(failed to call webhook: Post "[^"]*": ).*`), "${1}CAUSE"}, // refused, or no answer in time
	{regexp.MustCompile(`(lookup api.invalid).*`), "${1}: CAUSE"},                   // by the machine's own resolver
}

func (tr *transcript) clean(text string) string {
	text = tr.hide.Replace(text)
	for _, v := range varying {
		text = v.what.ReplaceAllString(text, v.name)
	}
	return text
}

// add writes down a run of a command under what it shows.
func (tr *transcript) add(title, command string, s said) {
	fmt.Fprintf(&tr.text, "# %s\n$ %s\n", title, tr.clean(command))
	for _, part := range []string{s.stdout, s.stderr} {
		if part = strings.TrimRight(tr.clean(part), "\n"); part != "" {
			tr.text.WriteString(part + "\n")
		}
	}
	fmt.Fprintf(&tr.text, "exit code %d\n\n", s.status)
}

// end compares, or writes.
func (tr *transcript) end() {
	tr.t.Helper()
	file, got := filepath.Join("testdata", tr.name+".golden"), strings.TrimRight(tr.text.String(), "\n")+"\n"
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			tr.t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			tr.t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		tr.t.Fatal(err)
	}
	if got == string(want) {
		return
	}
	for i, line := range strings.Split(got, "\n") {
		if old := strings.Split(string(want), "\n"); i >= len(old) || old[i] != line {
			tr.t.Errorf("%s differs from line %d on (-args -update writes it):\n%s", file, i+1, got)
			return
		}
	}
	tr.t.Errorf("%s has more lines than\n%s", file, got)
}
