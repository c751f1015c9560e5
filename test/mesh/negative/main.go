// Package main is the negative run: what the mesh proves of itself is proved once more with one of its
// features taken away, and must fail then. A proof that passes all the same proves nothing.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

// proof is a check and how to take away what it is about.
type proof struct {
	name string
	// feature is what is taken away, by env or by more args.
	feature string
	command []string
	env     string
	args    []string
	// says is what it must fail with, so that a failure of another kind does not count.
	says *regexp.Regexp
}

func proofs() []proof {
	// Settings of every proxy that test/mesh starts as a process.
	const every = "TULLE_MESH_PROXY_ENV="
	test := func(run string) []string {
		return []string{"go", "test", "-short", "-count=1", "-run", run, "./test/mesh"}
	}
	return []proof{
		{
			name: "no marker passes the network in the clear", feature: "mutual TLS",
			command: test("^TestTheNetworkSeesNothing$/^binaries$"), env: every + "TULLE_MTLS=off",
			says: regexp.MustCompile(`passed the network \d+ times in the clear`),
		},
		{
			name: "a slow instance gets under 10 % of the requests", feature: "EWMA, for random choice",
			command: []string{"go", "run", "./cmd/tulle-demo", "--plain", "--scenario", "slow-recovers"},
			args:    []string{"--balancing", "random"},
			says:    regexp.MustCompile(`the slow one is under 10 % within 5 s: \d+`),
		},
		{
			name: "nothing is lost but what was in flight on a killed instance", feature: "retries",
			command: test("^TestTrafficThroughEverything$"), env: every + "TULLE_RETRIES=off",
			says: regexp.MustCompile(`r\d+ (never got there|was not on it|was sent .* after the kill|failed .* before the kill)`),
		},
	}
}

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "negative:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	fs := flag.NewFlagSet("negative", flag.ContinueOnError)
	only := fs.String("only", "", "run only proofs whose feature contains this")
	if err := fs.Parse(args); err != nil {
		return err
	}
	fmt.Fprintln(out, "| proof | without | with it | without it | it said |\n| --- | --- | --- | --- | --- |")
	wrong := 0
	for _, p := range proofs() {
		if !strings.Contains(p.feature, *only) {
			continue
		}
		with, _ := p.run(nil, nil)
		without, said := p.run([]string{p.env}, p.args)
		fmt.Fprintf(out, "| %s | %s | %s | %s | %s |\n", p.name, p.feature, with, without, said)
		if with.failed || !without.failed || said == "" {
			wrong++
			fmt.Fprintf(os.Stderr, "%s\n%s\n", with.output, without.output)
		}
	}
	if wrong > 0 {
		return fmt.Errorf("%d proofs fail with what they are about, or pass without it", wrong)
	}
	return nil
}

// outcome is how a run ended.
type outcome struct {
	failed bool
	took   time.Duration
	output string
}

// String implements fmt.Stringer.
func (o outcome) String() string {
	word := "passes"
	if o.failed {
		word = "fails"
	}
	return fmt.Sprintf("%s, %.0f s", word, o.took.Seconds())
}

// run returns how the proof ended, and the first of what it should say when it fails.
func (p *proof) run(env, args []string) (outcome, string) {
	var b bytes.Buffer
	cmd := exec.Command(p.command[0], append(p.command[1:len(p.command):len(p.command)], args...)...) //nolint:gosec // from the list above
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = &b, &b
	began := time.Now()
	err := cmd.Run()
	said := p.says.FindString(b.String())
	return outcome{failed: err != nil, took: time.Since(began), output: b.String()}, said
}
