//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Roles of the processes that the harness starts of itself.
const (
	roleOrigin = "origin"
	roleLoad   = "load"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	if len(args) == 1 && args[0] == roleOrigin {
		return origin(os.Stdin, os.Stdout)
	}
	if len(args) == 1 && args[0] == roleLoad {
		return loadCommand(os.Stdin, os.Stdout)
	}
	opts, err := parse(args, os.Stderr)
	if err != nil {
		return err
	}
	return compare(ctx, opts)
}

// options say what a run does.
type options struct {
	rounds         int
	time, warm     time.Duration
	idle           time.Duration
	only           []string // names of cases; none: all
	out, profile   string
	builds         []build
	withoutHAProxy bool
}

// build is a tulle-proxy to measure. Without a path it is built from this tree.
type build struct{ name, path string }

func parse(args []string, w io.Writer) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(w)
	quick := f.Bool("quick", false, "one short round: under a minute")
	f.IntVar(&o.rounds, "rounds", 5, "rounds of each case")
	f.DurationVar(&o.time, "time", 2*time.Second, "time of one measurement")
	f.DurationVar(&o.warm, "warm", 500*time.Millisecond, "load before each measurement")
	f.DurationVar(&o.idle, "idle", 10*time.Second, "time of the idle measurement")
	only := f.String("cases", "", "comma-separated names of cases, of "+strings.Join(caseNames(), ", ")+"; empty: all")
	f.StringVar(&o.out, "out", "", "file or directory for the results as markdown; a directory gets a dated file")
	f.StringVar(&o.profile, "profile", "", "directory for CPU profiles of tulle-proxy, from one more round")
	f.BoolVar(&o.withoutHAProxy, "without-haproxy", false, "leave HAProxy out")
	f.Func("with", "name=path of another build of tulle-proxy to measure as well; may be repeated", func(v string) error {
		name, path, ok := strings.Cut(v, "=")
		if !ok {
			return errors.New("want name=path")
		}
		abs, err := filepath.Abs(path)
		o.builds = append(o.builds, build{name, abs})
		return err
	})
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if *quick {
		o.rounds, o.time, o.warm, o.idle = 1, 1500*time.Millisecond, 300*time.Millisecond, 4*time.Second
	}
	o.builds = append([]build{{name: "tulle"}}, o.builds...)
	o.only = strings.FieldsFunc(*only, func(r rune) bool { return r == ',' })
	for _, name := range o.only {
		if !slices.Contains(caseNames(), name) {
			return nil, fmt.Errorf("there is no case %q; there are %s", name, strings.Join(caseNames(), ", "))
		}
	}
	return o, nil
}

// receive reads a child's orders, which are one JSON value.
func receive(r io.Reader, v any) error {
	if err := json.NewDecoder(r).Decode(v); err != nil {
		return fmt.Errorf("read orders: %w", err)
	}
	return nil
}
