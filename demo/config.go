package demo

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Config says what the demo does. The zero value runs until it is stopped.
type Config struct {
	// Duration ends the demo after that much traffic, with an error when a service got none or mutual
	// TLS was not everywhere; 0 runs until it is stopped.
	Duration time.Duration
	// Output is "json" for the last table as JSON; "" is a live table.
	Output string
	// Plain shows lines where a terminal could show more.
	Plain bool
	// Scenario is a script of events, one of Scenarios; "" is none.
	Scenario string
	// NoMTLS, NoRetries and Balancing take away what the mesh does, to see the difference.
	NoMTLS, NoRetries bool
	Balancing         string
	// ProxyEnv are more settings for every proxy, "TULLE_X=y".
	ProxyEnv []string
	// WebRate is requests per second to web; 0 is 100.
	WebRate float64
	// BinDir holds tulle-proxy and tulle-shop; "" looks beside this program, and else builds them.
	BinDir string
	// Keep leaves the directory with logs and YAML behind, and says where it is.
	Keep bool
}

// Flags defines the flags of the demo on f, which set cfg.
func (cfg *Config) Flags(f *flag.FlagSet) {
	f.DurationVar(&cfg.Duration, "duration", 0, "end after that much traffic, and fail when a service got none or mTLS is not 100 %; 0: run until stopped")
	f.StringVar(&cfg.Output, "o", "", "json: print the last table as JSON")
	f.BoolVar(&cfg.Plain, "plain", false, "plain lines on a terminal too")
	f.StringVar(&cfg.Scenario, "scenario", "", "a script of events: "+strings.Join(Scenarios(), ", "))
	f.Func("mtls", "`on` or off", toggle(&cfg.NoMTLS))
	f.Func("retries", "`on` or off", toggle(&cfg.NoRetries))
	f.StringVar(&cfg.Balancing, "balancing", "", "ewma, round-robin, least-requests or random, whatever policy says")
	f.Func("proxy-env", "a setting for every proxy, `NAME=value`; may be repeated (docs/proxy.md)", func(v string) error {
		if name, _, ok := strings.Cut(v, "="); !ok || name == "" {
			return errors.New("want NAME=value")
		}
		cfg.ProxyEnv = append(cfg.ProxyEnv, v)
		return nil
	})
	f.Float64Var(&cfg.WebRate, "web-rate", 100, "requests per second to web")
	f.StringVar(&cfg.BinDir, "bin-dir", "", "directory with tulle-proxy and tulle-shop (default: beside this program, else they are built)")
	f.BoolVar(&cfg.Keep, "keep", false, "leave the directory with logs and YAML behind")
}

func toggle(off *bool) func(string) error {
	return func(v string) error {
		if v != "on" && v != "off" {
			return errors.New("want on or off")
		}
		*off = v == "off"
		return nil
	}
}

func (cfg *Config) check() error {
	if cfg.Output != "" && cfg.Output != "json" {
		return fmt.Errorf("-o %s: want json", cfg.Output)
	}
	if cfg.Scenario != "" && !slices.Contains(Scenarios(), cfg.Scenario) {
		return fmt.Errorf("no scenario %q: want %s", cfg.Scenario, strings.Join(Scenarios(), ", "))
	}
	if !slices.Contains([]string{"", "ewma", "round-robin", "least-requests", "random"}, cfg.Balancing) {
		return fmt.Errorf("--balancing %s: want ewma, round-robin, least-requests or random", cfg.Balancing)
	}
	if cfg.WebRate < 0 || cfg.Duration < 0 {
		return errors.New("rates and durations are not negative")
	}
	if cfg.WebRate == 0 {
		cfg.WebRate = 100
	}
	return nil
}
