// Command release moves the source from one version to the next: internal/version/VERSION, which is the one place that
// says it, and what repeats it (the charts, the sample's images, the heading of CHANGELOG.md). docs/release.md says when.
//
//	go -C tools run ./release -source .. 0.1.0       # the release: dates the heading
//	go -C tools run ./release -source .. 0.2.0-dev   # back to work: opens a heading
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

func main() {
	err := run(os.Args[1:], os.Stdout, time.Now())
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

// repeats are the files that may repeat the version; tests of charts and samples find one that was forgotten.
var repeats = []string{"charts/*/Chart.yaml", "charts/testdata/*.yaml", "samples/*/*.yaml"}

var semantic = regexp.MustCompile(`^\d+\.\d+\.\d+(-dev)?$`)

func run(args []string, out io.Writer, now time.Time) error {
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	source := flags.String("source", ".", "directory of the source")
	if err := flags.Parse(args); err != nil {
		return err
	}
	next := flags.Arg(0)
	if !semantic.MatchString(next) || flags.NArg() != 1 {
		return errors.New("want one version, such as 0.1.0 or 0.2.0-dev")
	}
	place := filepath.Join(*source, "internal", "version", "VERSION")
	raw, err := os.ReadFile(place)
	if err != nil {
		return err
	}
	old := strings.TrimSpace(string(raw))
	if err := allowed(old, next); err != nil {
		return err
	}
	if err := changelog(filepath.Join(*source, "CHANGELOG.md"), next, now); err != nil {
		return err
	}
	var files []string
	for _, pattern := range repeats {
		found, err := filepath.Glob(filepath.Join(*source, pattern))
		if err != nil {
			return err
		}
		files = append(files, found...)
	}
	whole := regexp.MustCompile(`(^|[^\w.])` + regexp.QuoteMeta(old) + `($|[^\w.-])`) // 10.1.0.1 has 0.1.0 in it
	for _, name := range files {
		if err := edit(name, func(text string) (string, error) { return whole.ReplaceAllString(text, "${1}"+next+"${2}"), nil }); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "%s -> %s\n", old, next)
	return os.WriteFile(place, []byte(next+"\n"), 0o644)
}

// allowed: X.Y.Z-dev becomes X.Y.Z, and X.Y.Z some other one that is in the making.
func allowed(old, next string) error {
	switch {
	case strings.HasSuffix(old, "-dev") && next == strings.TrimSuffix(old, "-dev"):
		return nil
	case !strings.HasSuffix(old, "-dev") && strings.HasSuffix(next, "-dev") && strings.TrimSuffix(next, "-dev") != old:
		return nil
	}
	return fmt.Errorf("%s does not become %s: a release ends its own -dev, and another -dev follows it", old, next)
}

// open is what follows a version in its heading until it is released.
const open = "not released yet"

// changelog dates the heading of a release, and opens one for what is in the making.
func changelog(name, next string, now time.Time) error {
	return edit(name, func(text string) (string, error) {
		number, working := strings.CutSuffix(next, "-dev")
		heading := "## " + number + " - "
		if working {
			top, rest, ok := strings.Cut(text, "\n## ")
			if !ok {
				return "", fmt.Errorf("%s has no heading", name)
			}
			return top + "\n" + heading + open + "\n\n## " + rest, nil
		}
		if !strings.Contains(text, "\n"+heading+open+"\n") {
			return "", fmt.Errorf("%s has no heading %q", name, heading+open)
		}
		return strings.Replace(text, heading+open, heading+now.UTC().Format(time.DateOnly), 1), nil
	})
}

func edit(name string, change func(string) (string, error)) error {
	raw, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	text, err := change(string(raw))
	if err != nil {
		return err
	}
	if text == string(raw) {
		return nil
	}
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	return os.WriteFile(name, []byte(text), info.Mode().Perm())
}
