package cli

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tulle-mesh/tulle/charts"
	"github.com/tulle-mesh/tulle/cli/apitest"
	"github.com/tulle-mesh/tulle/cli/exit"
	"github.com/tulle-mesh/tulle/cli/manifest"
	"github.com/tulle-mesh/tulle/internal/run"
	"github.com/tulle-mesh/tulle/internal/version"
)

var update = flag.Bool("update", false, "write the golden parts of scripts, and docs/cli.md")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"tulle": func() {
			os.Exit(run.Main(context.Background(), "tulle", func(ctx context.Context, args []string, s run.Streams) error {
				return Run(ctx, args, Host{Streams: s, Getenv: os.Getenv})
			}))
		},
	})
}

// Scripts have, besides testscript's own commands:
//
//	cluster FILE…        an API server with the objects of FILEs, and KUBECONFIG for it
//	cluster -token=x …   the same, and a kubeconfig whose token is not accepted
//	cluster -chart …     with what tulle install makes besides
//	code N tulle …       the command, which must end with exit code N
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata", UpdateScripts: *update, RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("VERSION", version.Number())
			e.Setenv("KUBECONFIG", filepath.Join(e.WorkDir, "no-kubeconfig"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"cluster": startCluster, "code": code,
		},
	})
}

func startCluster(ts *testscript.TestScript, _ bool, args []string) {
	token := ""
	var objects []unstructured.Unstructured
	var denied, forbidden []string
	for _, arg := range args {
		name, value, _ := strings.Cut(arg, "=")
		switch name {
		case "-token":
			token = value
		case "-denied":
			denied = append(denied, strings.ReplaceAll(value, "/", " "))
		case "-forbidden":
			forbidden = append(forbidden, value)
		case "-chart":
			for _, chart := range []string{charts.CRDs, charts.Tulle} {
				raw, err := manifest.Render(chart, "tulle", manifest.Wishes{}, manifest.Facts{})
				ts.Check(err)
				all, err := manifest.Parse(raw)
				ts.Check(err)
				objects = append(objects, all...)
			}
		default:
			all, err := manifest.Parse([]byte(ts.ReadFile(arg)))
			ts.Check(err)
			objects = append(objects, all...)
		}
	}
	s := apitest.Start(objects...)
	s.Denied, s.Forbidden = denied, forbidden
	ts.Defer(s.Close)
	file := ts.MkAbs("kubeconfig")
	ts.Check(os.WriteFile(file, s.Kubeconfig(token), 0o600))
	ts.Setenv("KUBECONFIG", file)
	ts.Setenv("SERVER", s.URL)
	// The same server, and roots that do not have its certificate.
	distrusting := regexp.MustCompile(`certificate-authority-data: [^}]*`).ReplaceAllString(string(s.Kubeconfig("")), "tls-server-name: example.com")
	ts.Check(os.WriteFile(ts.MkAbs("distrusting.yaml"), []byte(distrusting), 0o600))
}

// code runs a command and compares its exit code.
func code(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	if err != nil {
		if _, scanErr := fmt.Sscanf(err.Error(), "exit status %d", &got); scanErr != nil {
			ts.Fatalf("%v", err)
		}
	}
	if fmt.Sprint(got) != args[0] {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

// tree is every command.
func tree(t *testing.T) []*cobra.Command {
	t.Helper()
	var all []*cobra.Command
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		all = append(all, c)
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(New(Host{Streams: run.Streams{Out: &bytes.Buffer{}, Err: &bytes.Buffer{}}, Getenv: func(string) string { return "" }}))
	return all
}

func TestEveryCommandHasHelpWithExamples(t *testing.T) {
	for _, c := range tree(t) {
		path := c.CommandPath()
		switch {
		case c.Short == "" || strings.HasSuffix(c.Short, "."):
			t.Errorf("%s: Short is a line without a full stop, not %q", path, c.Short)
		case c.Example == "":
			t.Errorf("%s has no example: people read those first", path)
		case !c.Runnable():
			t.Errorf("%s cannot be run", path)
		}
		for line := range strings.Lines(c.Example) {
			if !strings.HasPrefix(line, "  ") || !strings.Contains(line, "tulle ") {
				t.Errorf("%s: example %q: want two spaces and a command", path, line)
			}
		}
		if c.HasParent() && !strings.Contains(c.Example, path) {
			t.Errorf("%s: no example shows it:\n%s", path, c.Example)
		}
	}
}

// Every flag that an example uses exists: examples are copied.
func TestExamplesCanBeParsed(t *testing.T) {
	all := tree(t)
	for _, c := range all {
		for line := range strings.Lines(c.Example) {
			for part := range strings.FieldsFuncSeq(line, func(r rune) bool { return r == '|' || r == ';' || r == '>' || r == '<' || r == '(' || r == ')' }) {
				words := strings.Fields(part)
				if len(words) < 2 || words[0] != "tulle" {
					continue
				}
				words = words[1:]
				found, rest, err := all[0].Find(words)
				if err != nil || found == all[0] && !strings.HasPrefix(words[0], "-") {
					t.Errorf("%s: example %q names no command", c.CommandPath(), strings.TrimSpace(line))
					continue
				}
				if err := found.ParseFlags(rest); err != nil {
					t.Errorf("%s: example %q: %v", c.CommandPath(), strings.TrimSpace(line), err)
				}
			}
		}
	}
}

func TestExitCodesAreDocumented(t *testing.T) {
	help := tree(t)[0].Long
	seen := map[int]bool{}
	for _, m := range exit.Table() {
		if !strings.Contains(help, fmt.Sprintf("  %d  %s\n", m.Code, m.What)) {
			t.Errorf("tulle --help does not say what exit code %d is", m.Code)
		}
		if seen[m.Code] {
			t.Errorf("exit code %d is there twice", m.Code)
		}
		seen[m.Code] = true
	}
}

func TestTheReferenceIsGenerated(t *testing.T) {
	const begin, end = "<!-- commands: written by go test ./cli -update -->\n", "<!-- end of commands -->\n"
	file := filepath.Join("..", "docs", "cli.md")
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(raw), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the commands", file)
	}
	want := head + begin + reference(tree(t)) + end + tail
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(raw) {
		t.Errorf("%s differs from the commands: go test ./cli -update writes it", file)
	}
}

// reference is the part of docs/cli.md that is made from the commands.
func reference(all []*cobra.Command) string {
	var b strings.Builder
	b.WriteString("### Exit codes\n\n| code | meaning |\n| --- | --- |\n")
	for _, m := range exit.Table() {
		fmt.Fprintf(&b, "| %d | %s |\n", m.Code, m.What)
	}
	fmt.Fprintf(&b, "\n### Flags of every command\n\n```\n%s```\n", all[0].PersistentFlags().FlagUsages())
	slices.SortStableFunc(all[1:], func(a, c *cobra.Command) int { return strings.Compare(a.CommandPath(), c.CommandPath()) })
	for _, c := range all[1:] {
		fmt.Fprintf(&b, "\n### %s\n\n", c.CommandPath())
		long := c.Long
		if long == "" {
			long = c.Short + "."
		}
		fmt.Fprintf(&b, "%s\n\n```\n%s\n\n%s\n", long, c.UseLine(), c.Example)
		if flags := c.NonInheritedFlags().FlagUsages(); flags != "" {
			fmt.Fprintf(&b, "\n%s", flags)
		}
		b.WriteString("```\n")
	}
	return b.String()
}
