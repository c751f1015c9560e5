package balance_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/balance"
)

var rewrite = flag.Bool("rewrite", false, "write what happens into testdata/decisions")

// TestDecisions plays testdata/decisions: paragraphs of a command, a line of dashes and what it
// answers. A command is several lines when they begin with its word:
//
//	new [kind=K] [zone=Z]         an empty balancer at time zero
//	add NAME[,weight=N][,zones=Z][,pod=P][,end] …
//	remove NAME …
//	replace NAME …                these are all that there are
//	tick T                        time passes
//	ok NAME TIME [N]              N requests, each answered after TIME (which passes)
//	fail NAME CAUSE [N] [rest=T]  N requests that fail at once
//	start NAME [N]                N requests that are not answered
//	end NAME OUTCOME              all that were started there end: ok, fail, cancel
//	tunnel NAME [N]               N tunnels that stay open
//	pick [N] [avoid=NAME,…]       shares of N picks; the picked are not started
//	probe OUTCOME                 a pick that must be a probe, and how it ends: ok, fail, cancel
//	state | why | available | estimate NAME | digest
func TestDecisions(t *testing.T) { // R6.1, R6.2, R6.3, R6.4, R6.5
	files, err := filepath.Glob("testdata/decisions/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) { playFile(t, f) })
	}
}

func playFile(t *testing.T, file string) {
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	d := newDesk("new")
	var out strings.Builder
	for i, par := range strings.Split(strings.TrimSpace(string(raw)), "\n\n") {
		if i > 0 {
			out.WriteString("\n\n")
		}
		cmd, want, ok := strings.Cut(par, "\n----\n")
		if !ok {
			cmd = strings.TrimSuffix(par, "\n----")
		}
		out.WriteString(cmd)
		var got []string
		run := false
		for line := range strings.Lines(cmd) {
			if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
				continue
			}
			run = true
			if a := d.do(&d, line); a != "" {
				got = append(got, a)
			}
		}
		if !run {
			continue
		}
		answer := strings.Join(got, "\n")
		if answer == "" {
			answer = "ok"
		}
		out.WriteString("\n----\n" + answer)
		if !*rewrite && answer != strings.TrimSpace(want) {
			t.Errorf("%s\n got: %s\nwant: %s", cmd, answer, want)
		}
	}
	if *rewrite {
		if err := os.WriteFile(file, []byte(out.String()+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// desk is a balancer with a clock.
type desk struct {
	b       *balance.Balancer
	now     mono.Time
	rows    map[string]mesh.Endpoint
	flights map[string][]balance.Flight
}

func newDesk(line string) *desk {
	cfg := balance.Config{}
	for _, o := range strings.Fields(line)[1:] {
		k, v, _ := strings.Cut(o, "=")
		switch k {
		case "zone":
			cfg.Zone = v
		case "kind":
			cfg.Kind = map[string]mesh.Balancing{
				"round-robin": mesh.BalanceRoundRobin, "least-requests": mesh.BalanceLeastRequests, "random": mesh.BalanceRandom,
			}[v]
		}
	}
	return &desk{b: balance.New(cfg, rand.New(rand.NewPCG(1, 2))), now: simStart, rows: map[string]mesh.Endpoint{}, flights: map[string][]balance.Flight{}}
}

func (d *desk) do(self **desk, line string) string {
	w := strings.Fields(line)
	switch w[0] {
	case "new":
		*self = newDesk(line)
		return ""
	case "add":
		return gone(d.b.Apply(d.parse(w[1:]), nil, d.now))
	case "replace":
		return gone(d.b.Replace(d.parse(w[1:]), d.now))
	case "remove":
		var a []netip.AddrPort
		for _, n := range w[1:] {
			a = append(a, addrOf(n))
		}
		return gone(d.b.Apply(nil, a, d.now))
	case "tick":
		d.now = d.now.Add(duration(w[1]))
	case "ok":
		for range count(w, 3) {
			f := d.find(w[1]).Start(d.now)
			d.now = d.now.Add(duration(w[2]))
			f.FirstData(d.now)
			f.Done(d.now, balance.Outcome{})
		}
	case "end":
		for _, f := range d.flights[w[1]] {
			f.Done(d.now, outcomeOf(w[2]))
		}
		d.flights[w[1]] = nil
	case "fail":
		d.fail(w)
	case "start", "tunnel":
		for range count(w, 2) {
			if w[0] == "start" {
				d.flights[w[1]] = append(d.flights[w[1]], d.find(w[1]).Start(d.now))
				continue
			}
			f := d.find(w[1]).StartTunnel(d.now)
			f.FirstData(d.now)
		}
	case "pick":
		return d.pick(w)
	case "probe":
		return d.probe(w[1])
	default:
		return d.show(w)
	}
	return ""
}

func (d *desk) show(w []string) string {
	switch w[0] {
	case "state":
		return d.state()
	case "why":
		return d.b.WhyNone(d.now)
	case "available":
		return fmt.Sprintf("%d of %d", d.b.Available(d.now), d.b.Len())
	case "estimate":
		return d.find(w[1]).Estimate(d.now).Round(100 * time.Microsecond).String()
	case "digest":
		var want mesh.Digest
		d.b.Each(func(e *balance.Endpoint) { want.Add(d.rows[nameOf(e)]) })
		return fmt.Sprintf("%d rows, equal %v", d.b.Len(), want.Value() == walked(d.b, 1000))
	}
	panic("unknown command " + w[0])
}

func (d *desk) fail(w []string) {
	cause := map[string]balance.Cause{
		"connect": balance.CauseConnect, "identity": balance.CauseIdentity, "reset": balance.CauseReset,
		"status": balance.CauseStatus, "unavailable": balance.CauseUnavailable, "timeout": balance.CauseTimeout,
	}[w[2]]
	var rest time.Duration
	if r, ok := strings.CutPrefix(w[len(w)-1], "rest="); ok {
		rest = duration(r)
		w = w[:len(w)-1]
	}
	for range count(w, 3) {
		f := d.find(w[1]).Start(d.now)
		f.Done(d.now, balance.Failure(cause, rest))
	}
}

func (d *desk) pick(w []string) string {
	var avoid []*balance.Endpoint
	if names, ok := strings.CutPrefix(w[len(w)-1], "avoid="); ok {
		for n := range strings.SplitSeq(names, ",") {
			avoid = append(avoid, d.find(n))
		}
		w = w[:len(w)-1]
	}
	shares := map[string]int{}
	n := count(w, 1)
	for range n {
		e, ok := d.b.Pick(d.now, avoid)
		if !ok {
			shares["none"]++
			continue
		}
		shares[nameOf(e)]++
	}
	var names []string
	for k := range shares {
		names = append(names, k)
	}
	slices.Sort(names)
	for i, k := range names {
		names[i] = fmt.Sprintf("%s %d", k, shares[k])
	}
	return strings.Join(names, ", ")
}

func (d *desk) probe(outcome string) string {
	e, ok := d.b.Pick(d.now, nil)
	if !ok || !e.Ejected() {
		return "no probe is due"
	}
	f := e.Start(d.now)
	f.Done(d.now, outcomeOf(outcome))
	if e.Ejected() {
		return nameOf(e) + " stays out"
	}
	return nameOf(e) + " is back"
}

func outcomeOf(s string) balance.Outcome {
	switch s {
	case "ok":
		return balance.Outcome{}
	case "cancel":
		return balance.Outcome{Result: balance.Cancelled}
	}
	return balance.Failure(balance.CauseConnect, 0)
}

// state shows who is in service and who is out.
func (d *desk) state() string {
	var in, out []string
	d.b.Each(func(e *balance.Endpoint) {
		switch {
		case e.Ejected():
			out = append(out, nameOf(e))
		default:
			in = append(in, nameOf(e))
		}
	})
	slices.Sort(in)
	slices.Sort(out)
	return fmt.Sprintf("in [%s], out [%s]", strings.Join(in, " "), strings.Join(out, " "))
}

func (d *desk) find(name string) (found *balance.Endpoint) {
	d.b.Each(func(e *balance.Endpoint) {
		if nameOf(e) == name {
			found = e
		}
	})
	return found
}

// parse reads rows and remembers them.
func (d *desk) parse(w []string) []mesh.Endpoint {
	var rows []mesh.Endpoint
	for _, r := range w {
		name, opts, _ := strings.Cut(r, ",")
		e := mesh.Endpoint{Addr: addrOf(name)}
		for o := range strings.SplitSeq(opts, ",") {
			k, v, _ := strings.Cut(o, "=")
			switch k {
			case "weight":
				n, _ := strconv.Atoi(v)
				e.Weight = uint32(n)
			case "zones":
				e.ForZones = v
			case "pod":
				e.Pod = v
			case "end":
				e.Terminating = true
			}
		}
		d.rows[name] = e
		rows = append(rows, e)
	}
	return rows
}

func nameOf(e *balance.Endpoint) string {
	a := e.Addr.Addr().As4()
	return string('a' + a[3] - 1)
}

func gone(es []*balance.Endpoint) string {
	var names []string
	for _, e := range es {
		names = append(names, nameOf(e)+" left")
	}
	return strings.Join(names, ", ")
}

func count(w []string, i int) int {
	if i >= len(w) {
		return 1
	}
	n, err := strconv.Atoi(w[i])
	if err != nil {
		panic(err)
	}
	return n
}

func duration(s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		panic(err)
	}
	return d
}
