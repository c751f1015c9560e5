package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/charmbracelet/x/term"

	"github.com/tulle-mesh/tulle/internal/run"
	"github.com/tulle-mesh/tulle/internal/shop/traffic"
)

// Run runs the demo until ctx ends, somebody quits, its duration is over or its script has ended.
func Run(ctx context.Context, cfg Config, s run.Streams) error {
	if err := cfg.check(); err != nil {
		return &run.ExitError{Code: 2, Err: err}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if cfg.Output == "" && !cfg.Plain && isTerminal(s.In) && isTerminal(s.Out) {
		return onTerminal(ctx, cfg, s)
	}
	progress := s.Out
	if cfg.Output == "json" {
		progress = s.Err
	}
	d := newDemo(cfg, func(line string) { fmt.Fprintln(progress, line) })
	shown := time.Time{}
	d.show = func(f frame) {
		if time.Since(shown) >= plainEvery {
			shown = time.Now()
			for _, l := range append([]string{"", f.title()}, f.table.lines(style{}, 0)...) {
				fmt.Fprintln(progress, l)
			}
		}
	}
	res, err := d.run(ctx)
	if res == nil {
		return err
	}
	if cfg.Output == "json" {
		enc := json.NewEncoder(s.Out)
		enc.SetIndent("", "  ")
		return errors.Join(err, enc.Encode(res))
	}
	for _, l := range res.lines(style{}, 0) {
		fmt.Fprintln(s.Out, l)
	}
	return err
}

// plainEvery is how often lines are written where there is no terminal.
const plainEvery = 5 * time.Second

func isTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && term.IsTerminal(f.Fd())
}

const (
	scrapeEvery = time.Second
	// window is what the live table is about.
	window = 10 * time.Second
)

// frame is what is shown at a moment.
type frame struct {
	table  Table
	since  time.Duration // the traffic began
	silent []string      // proxies that did not answer
}

func (f frame) title() string {
	t := fmt.Sprintf("%s of traffic, the last %.0f s:", f.since.Round(time.Second), f.table.Seconds)
	if len(f.silent) > 0 {
		t += fmt.Sprintf(" (no answer from %v)", f.silent)
	}
	return t
}

// Result is what the demo prints at its end as JSON.
type Result struct {
	Table

	// Agreement compares the table with the generator's own count.
	Agreement []Agreement `json:"agreement"`
	Started   string      `json:"started"` // how long it took until the traffic
	Script    *Script     `json:"script,omitempty"`
	Failures  []string    `json:"failures,omitempty"`
}

func (r *Result) lines(s style, width int) []string {
	out := append([]string{"", fmt.Sprintf("the whole run, %.1f s of traffic:", r.Seconds)}, r.Table.lines(s, width)...)
	worst := Number(0)
	for _, a := range r.Agreement {
		worst = max(worst, a.Off)
	}
	if len(r.Agreement) > 0 {
		out = append(out, "", fmt.Sprintf("The traffic generator counted the same but for %s at most.", percent(worst)))
	}
	for _, f := range r.Failures {
		out = append(out, s.bad("FAILED: ")+f)
	}
	return out
}

// demo is one run.
type demo struct {
	cfg    Config
	say    func(string) // progress and events
	show   func(frame)
	w      *world
	client *http.Client
	began  time.Time // the traffic

	// What keys ask for runs beside, one after another, until live ends.
	live     context.Context //nolint:containedctx // keys are pressed by the screen, which has no context
	pressing sync.WaitGroup
	pressed  sync.Mutex
	slowed   bool // guarded by pressed

	mu      sync.Mutex // guards below
	ledger  *ledger
	history []moment // of the last window, and one before
}

// moment is what had been counted at a time.
type moment struct {
	at  time.Time
	sum totals
}

func newDemo(cfg Config, say func(string)) *demo {
	d := &demo{cfg: cfg, client: newClient(), ledger: newLedger()}
	start := time.Now()
	var mu sync.Mutex // instances start side by side
	d.say = func(line string) {
		mu.Lock()
		defer mu.Unlock()
		say(fmt.Sprintf("%5.1fs  %s", time.Since(start).Seconds(), line))
	}
	d.w = &world{cfg: cfg, say: d.say}
	return d
}

// run does it all and ends what it started. The result is nil when there was no traffic.
func (d *demo) run(ctx context.Context) (res *Result, err error) {
	defer d.client.CloseIdleConnections()
	var cancel context.CancelFunc
	d.live, cancel = context.WithCancel(ctx)
	defer func() {
		cancel()
		d.pressing.Wait()
		d.say("ending the shop, the proxies and the control plane")
		err = errors.Join(err, d.w.stop())
		d.say("nothing is left running")
		if d.cfg.Keep {
			d.say("logs and YAML are in " + d.w.dir)
		}
	}()
	start := time.Now()
	if err := d.w.start(ctx); err != nil {
		return nil, err
	}
	d.say("starting the traffic")
	g, err := d.w.launch(ctx, trafficSpec(), []string{"--web-rate", fmt.Sprint(d.cfg.WebRate), "--session", "1s"})
	if err != nil {
		return nil, err
	}
	d.w.join(g)
	d.began = time.Now()
	res = &Result{Started: time.Since(start).Round(time.Millisecond).String()}
	d.say("everything is up; " + d.howToEnd())
	res.Script, err = d.watch(ctx)
	return res, errors.Join(err, d.conclude(context.WithoutCancel(ctx), g, res))
}

func (d *demo) howToEnd() string {
	switch {
	case d.cfg.Scenario != "":
		return "the script " + d.cfg.Scenario + " begins"
	case d.cfg.Duration > 0:
		return "it ends after " + d.cfg.Duration.String()
	}
	return "Ctrl-C ends it"
}

// watch scrapes and shows until it is time to end. An error is the script's or a process's.
func (d *demo) watch(ctx context.Context) (*Script, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var script *Script
	var wg sync.WaitGroup
	if d.cfg.Scenario != "" {
		script = &Script{}
		wg.Go(func() { cancel(d.play(ctx, script)) }) // ends with ctx
	}
	var end <-chan time.Time
	if d.cfg.Duration > 0 && script == nil {
		t := time.NewTimer(d.cfg.Duration)
		defer t.Stop()
		end = t.C
	}
	tick := time.NewTicker(scrapeEvery)
	defer tick.Stop()
	err := func() error {
		for {
			select {
			case <-ctx.Done():
				return ended(context.Cause(ctx))
			case <-end:
				return nil
			case <-tick.C:
				d.show(d.look(ctx))
				if err := d.w.dead(); err != nil {
					return err
				}
			}
		}
	}()
	cancel(nil)
	wg.Wait()
	return script, err
}

// errPlayed ends a script.
var errPlayed = errors.New("the script has ended")

// ended is nil for the ends that are none of anybody's faults.
func ended(err error) error {
	if errors.Is(err, errPlayed) || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// look scrapes once and returns what to show.
func (d *demo) look(ctx context.Context) frame {
	d.mu.Lock()
	defer d.mu.Unlock()
	silent := d.ledger.scrape(ctx, d.client, d.w.all())
	now := moment{time.Now(), d.ledger.sum.clone()}
	from := moment{at: d.began}
	for len(d.history) > 0 && now.at.Sub(d.history[0].at) > window+scrapeEvery/2 {
		from, d.history = d.history[0], d.history[1:]
	}
	if len(d.history) > 0 && now.at.Sub(d.began) > window+scrapeEvery/2 {
		from = d.history[0]
	}
	d.history = append(d.history, now)
	return frame{
		table: tabulate(now.sum.since(from.sum), now.sum, now.at.Sub(from.at)), since: now.at.Sub(d.began), silent: silent,
	}
}

// sums scrapes and returns what was counted so far.
func (d *demo) sums(ctx context.Context) totals {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ledger.scrape(ctx, d.client, d.w.all())
	return d.ledger.sum.clone()
}

// conclude ends the traffic, and makes the table of the whole run: everything that was sent has
// ended by then, and both ends have counted it.
func (d *demo) conclude(ctx context.Context, g *instance, res *Result) error {
	ctx, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	d.say("ending the traffic")
	g.app.tell()
	took := time.Since(d.began)
	var saw traffic.Summary
	err := g.app.line(ctx, &saw)
	res.Table = tabulate(d.sums(ctx), d.ledger.sum, took)
	if err != nil {
		return fmt.Errorf("the generator's summary: %w", err)
	}
	// The ends of tunnels are counted when both sides have ended.
	for wait := time.Millisecond; disagree(agree(res.Table, saw)) != nil && wait < 200*time.Millisecond; wait *= 2 {
		time.Sleep(wait)
		res.Table = tabulate(d.sums(ctx), d.ledger.sum, took)
	}
	res.Agreement = agree(res.Table, saw)
	return d.judge(res)
}

// drainTime bounds the end of the traffic: requests in flight, and a session of the feed.
const drainTime = 12 * time.Second

// judge fails a run that was to prove something.
func (d *demo) judge(res *Result) error {
	if d.cfg.Duration == 0 && res.Script == nil {
		return nil
	}
	var errs []error
	if res.Script == nil {
		errs = append(errs, res.verdict())
	} else {
		errs = append(errs, res.Script.verdict())
	}
	errs = append(errs, disagree(res.Agreement))
	for _, err := range errs {
		if err != nil {
			res.Failures = append(res.Failures, err.Error())
		}
	}
	return errors.Join(errs...)
}
