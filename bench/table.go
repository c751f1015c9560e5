//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// publish prints the table and writes it where it is wanted.
func (b *bench) publish(rows []row, took time.Duration) error {
	text := b.markdown(rows, took, time.Now())
	fmt.Print(text)
	if b.opts.out == "" {
		return nil
	}
	path := b.opts.out
	if info, err := os.Stat(path); err == nil && info.IsDir() || !strings.HasSuffix(path, ".md") {
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
		path = filepath.Join(path, time.Now().UTC().Format(time.DateOnly)+"-bench.md")
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

func (b *bench) markdown(rows []row, took time.Duration, at time.Time) string {
	var t strings.Builder
	fmt.Fprintf(&t, "# Benchmark of %s\n\n", at.UTC().Format(time.DateOnly))
	fmt.Fprintf(&t, "%s.\n", machine())
	if b.cores.proxies != "" {
		fmt.Fprintf(&t, "Both proxies on one core, load and origin on another. ")
	} else {
		fmt.Fprintf(&t, "Nothing was pinned to a core. ")
	}
	if b.peer != "" {
		fmt.Fprintf(&t, "HAProxy %s, two processes, HTTP/2 over mutual TLS 1.3 between them. ", b.peer)
	}
	fmt.Fprintf(&t, "Medians of %d rounds of %s each after %s of warming up, contenders in turn; the run took %.0f s. ",
		b.opts.rounds, b.opts.time, b.opts.warm, took.Seconds())
	fmt.Fprintf(&t, "CPU is of both proxies together, from the kernel's accounts of their threads; added latency is the "+
		"percentile less that of the direct connection; memory is of both processes after the last round. "+
		"In parentheses: the ratio to HAProxy. Only figures of one run compare.\n\n")
	t.WriteString("| case | contender | CPU us/request | requests/s | added p50 us | added p99 us | resident MiB | anonymous MiB | errors |\n")
	t.WriteString("| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for _, r := range rows {
		if !r.kase.idle {
			loadRow(&t, r)
		}
	}
	for _, r := range rows {
		if r.kase.idle {
			idleTable(&t, r)
		}
	}
	return t.String()
}

// figures are the medians of a result.
type figures struct {
	cpu, rate, p50, p99, resident, anonymous float64
	errors                                   int
}

func figuresOf(r *result) (f figures) {
	pick := func(get func(*loadReport) float64) float64 {
		var v []float64
		for i := range r.reports {
			v = append(v, get(&r.reports[i]))
		}
		return median(v)
	}
	f.cpu = pick(func(l *loadReport) float64 { return l.ProxyCPU })
	f.rate = pick(func(l *loadReport) float64 { return float64(l.Requests) / l.Seconds })
	f.p50 = pick(func(l *loadReport) float64 { return l.P50 })
	f.p99 = pick(func(l *loadReport) float64 { return l.P99 })
	if n := len(r.reports); n > 0 {
		f.resident = float64(r.reports[n-1].Resident) / 1024
		f.anonymous = float64(r.reports[n-1].Anonymous) / 1024
	}
	for _, l := range r.reports {
		f.errors += l.Errors
	}
	return f
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

func find(results []*result, name string) *result {
	for _, r := range results {
		if r.contender == name {
			return r
		}
	}
	return &result{}
}

func loadRow(t *strings.Builder, r row) {
	base := figuresOf(find(r.results, "direct"))
	peer := figuresOf(find(r.results, "haproxy"))
	for _, x := range r.results {
		f := figuresOf(x)
		if x.contender == "direct" {
			fmt.Fprintf(t, "| %s | direct | - | %.0f | (%.0f) | (%.0f) | - | - | %d |\n", r.kase.title, f.rate, f.p50, f.p99, f.errors)
			continue
		}
		fmt.Fprintf(t, "| | %s | %s | %s | %s | %s | %s | %s | %d |\n", x.contender,
			compared(f.cpu, peer.cpu, 1), compared(f.rate, peer.rate, 0),
			compared(f.p50-base.p50, peer.p50-base.p50, 0), compared(f.p99-base.p99, peer.p99-base.p99, 0),
			compared(f.resident, peer.resident, 1), compared(f.anonymous, peer.anonymous, 1), f.errors)
	}
}

// compared is a figure with its ratio to the peer's.
func compared(v, peer float64, digits int) string {
	s := fmt.Sprintf("%.*f", digits, v)
	if peer > 0 && v != peer {
		s += fmt.Sprintf(" (%.2f)", v/peer)
	}
	return s
}

func idleTable(t *strings.Builder, r row) {
	t.WriteString("\n| idle, both proxies | wake-ups/s | CPU us/s | resident MiB | anonymous MiB |\n| --- | --- | --- | --- | --- |\n")
	peer := find(r.results, "haproxy").idle
	if peer == nil {
		peer = &idleReport{}
	}
	for _, x := range r.results {
		if x.contender == "direct" || x.idle == nil {
			continue
		}
		mib := func(k int) float64 { return float64(k) / 1024 }
		fmt.Fprintf(t, "| %s | %.1f | %s | %s | %s |\n", x.contender, x.idle.wakeups, compared(x.idle.cpu, peer.cpu, 0),
			compared(mib(x.idle.resident), mib(peer.resident), 1), compared(mib(x.idle.anonymous), mib(peer.anonymous), 1))
	}
}
