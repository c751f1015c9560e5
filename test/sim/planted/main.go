// Package main plants known bugs into today's code, one at a time and by
// overlay, and has the simulation find each within 2,000 seeds. A bug whose text
// no longer occurs exactly once fails: it must be written anew.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "planted:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	fs := flag.NewFlagSet("planted", flag.ContinueOnError)
	only := fs.String("only", "", "plant only bugs whose name contains this")
	seeds := fs.Int("seeds", 2000, "within how many seeds each must be found")
	hard := fs.Bool("missed", false, "plant those that are known not to be found, instead")
	list := fs.String("bugs", "", "JSON file with other bugs: [{\"name\",\"file\",\"old\",\"new\"}]")
	if err := fs.Parse(args); err != nil {
		return err
	}
	all := slices.Concat(bugs, further, odd)
	if *hard {
		all = missed
	}
	if *list != "" {
		var err error
		if all, err = readBugs(*list); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp("", "planted")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	missed := 0
	for _, b := range all {
		if !strings.Contains(b.name, *only) {
			continue
		}
		began := time.Now()
		within := max(*seeds, rare[b.name])
		found, err := b.plant(dir, within)
		switch {
		case err != nil:
			missed++
			found = "NOT PLANTED: " + err.Error()
		case found == "":
			missed++
			found = fmt.Sprintf("NOT FOUND within %d seeds", within)
		}
		fmt.Fprintf(out, "%-60s %s (%.1f s)\n", b.name, found, time.Since(began).Seconds())
	}
	if missed > 0 {
		return fmt.Errorf("%d bugs were not planted or not found", missed)
	}
	return nil
}

// readBugs reads bugs that are not in the list.
func readBugs(path string) ([]bug, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var in []struct {
		Name string `json:"name"`
		File string `json:"file"`
		Old  string `json:"old"`
		New  string `json:"new"`
	}
	if err := json.Unmarshal(b, &in); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	all := make([]bug, len(in))
	for i, x := range in {
		all[i] = bug{x.Name, x.File, x.Old, x.New}
	}
	return all, nil
}

// plant builds the simulation with the bug and runs it; it returns how the bug
// was found, empty when it was not.
func (b *bug) plant(dir string, seeds int) (string, error) {
	overlay, err := b.overlay(dir)
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "sim.test")
	if msg, err := exec.Command("go", "test", "-overlay", overlay, "-c", "-o", bin, "./test/sim").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, msg)
	}
	cmd := exec.Command(bin, "-test.run=^TestSeeds$", "-test.timeout=5m", "-first", "-seeds="+strconv.Itoa(seeds))
	cmd.Dir = "test/sim"
	msg, err := cmd.CombinedOutput()
	if err == nil {
		return "", nil
	}
	return finding(string(msg))
}

// overlay writes the changed file and what tells the go command of it.
func (b *bug) overlay(dir string) (string, error) {
	text, err := os.ReadFile(b.file)
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(text), b.old); n != 1 {
		return "", fmt.Errorf("%s: its text occurs %d times, want once: write the bug anew", b.file, n)
	}
	changed := filepath.Join(dir, "changed.go")
	if err := os.WriteFile(changed, []byte(strings.Replace(string(text), b.old, b.new, 1)), 0o600); err != nil {
		return "", err
	}
	path, err := filepath.Abs(b.file)
	if err != nil {
		return "", err
	}
	spec, err := json.Marshal(map[string]map[string]string{"Replace": {path: changed}})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, spec, 0o600)
}

var seedLine = regexp.MustCompile(`(?s)seed (\d+) .*?-v\n\s*(.*?)\n`)

// finding is the seed that a run failed with, and what it said first.
func finding(out string) (string, error) {
	if m := seedLine.FindStringSubmatch(out); m != nil {
		return fmt.Sprintf("seed %s: %s", m[1], m[2][:min(len(m[2]), 110)]), nil
	}
	if m := regexp.MustCompile(`seed (\d+) panicked: .*`).FindString(out); m != "" {
		return m, nil
	}
	if strings.Contains(out, "panic: test timed out") {
		return "it hangs", nil
	}
	return "", fmt.Errorf("the run failed without a finding:\n%s", out)
}
