package demo

import (
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// style colours a text, or leaves it.
type style struct{ colour bool }

func (s style) sgr(code, text string) string {
	if !s.colour || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s style) bold(t string) string { return s.sgr("1", t) }
func (s style) dim(t string) string  { return s.sgr("2", t) }
func (s style) good(t string) string { return s.sgr("32", t) }
func (s style) warn(t string) string { return s.sgr("33", t) }
func (s style) bad(t string) string  { return s.sgr("31", t) }

// column is one of the table's. Columns with a higher drop go first where the terminal is narrow.
type column struct {
	title string
	drop  int
	left  bool
	text  func(Row) string
	paint func(style, Row, string) string // nil is plain
}

func columns() []column {
	return []column{
		{title: "SERVICE", left: true, text: func(r Row) string {
			if r.part {
				return "  " + r.Service
			}
			return r.Service
		}, paint: func(s style, _ Row, t string) string { return s.bold(t) }},
		{title: "SPEAKS", drop: 5, left: true, text: func(r Row) string { return r.Protocol }, paint: func(s style, _ Row, t string) string { return s.dim(t) }},
		{title: "SUCCESS", text: func(r Row) string { return percent(r.Success) }, paint: func(s style, r Row, t string) string {
			switch {
			case math.IsNaN(float64(r.Success)):
				return s.dim(t)
			case r.Success >= .999:
				return s.good(t)
			case r.Success >= .95:
				return s.warn(t)
			}
			return s.bad(t)
		}},
		{title: "RPS", text: func(r Row) string {
			if r.tcp {
				return bytesPerSecond(r.BytesPerSecond)
			}
			return rate(r.RPS)
		}},
		{title: "P50", drop: 3, text: func(r Row) string { return millis(r.P50) }},
		{title: "P95", drop: 4, text: func(r Row) string { return millis(r.P95) }},
		{title: "P99", text: func(r Row) string { return millis(r.P99) }},
		{title: "MTLS", text: func(r Row) string { return percent(r.MTLS) }, paint: func(s style, r Row, t string) string {
			if r.MTLS == 1 {
				return s.good(t)
			}
			return s.bad(t)
		}},
		{title: "ENDPOINTS", drop: 2, text: func(r Row) string { return fmt.Sprint(r.Endpoints) }},
		{title: "SHARES", drop: 6, left: true, text: split, paint: func(s style, _ Row, t string) string { return s.dim(t) }},
	}
}

// lines renders the table within width columns; 0 is any width.
func (t Table) lines(s style, width int) []string {
	cols := columns()
	for width > 0 && tableWidth(t, cols) > width {
		worst := 0
		for i, c := range cols {
			if c.drop > cols[worst].drop {
				worst = i
			}
		}
		if cols[worst].drop == 0 {
			break
		}
		cols = append(cols[:worst:worst], cols[worst+1:]...)
	}
	out := make([]string, 1, 1+len(t.Services))
	for i, c := range cols {
		w := columnWidth(t, c)
		out[0] += gap(i) + s.dim(pad(c.title, w, c.left || i == 0))
	}
	for _, r := range t.Services {
		var line strings.Builder
		for i, c := range cols {
			text := pad(c.text(r), columnWidth(t, c), c.left)
			if c.paint != nil {
				text = c.paint(s, r, text)
			}
			line.WriteString(gap(i) + text)
		}
		out = append(out, line.String())
	}
	for i := range out {
		if !s.colour {
			out[i] = strings.TrimRight(out[i], " ")
		}
	}
	return out
}

func gap(i int) string {
	if i == 0 {
		return ""
	}
	return "  "
}

func columnWidth(t Table, c column) int {
	w := len(c.title)
	for _, r := range t.Services {
		w = max(w, utf8.RuneCountInString(c.text(r)))
	}
	return w
}

func tableWidth(t Table, cols []column) int {
	w := 2 * (len(cols) - 1)
	for _, c := range cols {
		w += columnWidth(t, c)
	}
	return w
}

func pad(s string, w int, left bool) string {
	fill := strings.Repeat(" ", max(0, w-utf8.RuneCountInString(s)))
	if left {
		return s + fill
	}
	return fill + s
}

// split tells what each of several instances got.
func split(r Row) string {
	if len(r.Shares) < 2 {
		return ""
	}
	var parts []string
	for _, name := range r.names() {
		parts = append(parts, name+" "+percent(r.Shares[name]))
	}
	return strings.Join(parts, ", ")
}

func percent(n Number) string {
	v := float64(n) * 100
	switch {
	case math.IsNaN(v):
		return "-"
	case v == 100 || v == 0:
		return fmt.Sprintf("%.0f%%", v)
	case v > 99.9: // not everything, and so not 100
		return fmt.Sprintf("%.2f%%", math.Floor(v*100)/100)
	}
	return fmt.Sprintf("%.1f%%", v)
}

func rate(n Number) string {
	switch v := float64(n); {
	case math.IsNaN(v):
		return "-"
	case v >= 100:
		return fmt.Sprintf("%.0f/s", v)
	default:
		return fmt.Sprintf("%.1f/s", v)
	}
}

func bytesPerSecond(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.1f MB/s", v/1e6)
	case v >= 1e3:
		return fmt.Sprintf("%.1f kB/s", v/1e3)
	}
	return fmt.Sprintf("%.0f B/s", v)
}

func millis(n Number) string {
	switch v := float64(n); {
	case math.IsNaN(v):
		return "-"
	case v >= 1000:
		return fmt.Sprintf("%.1f s", v/1000)
	case v >= 10:
		return fmt.Sprintf("%.0f ms", v)
	default:
		return fmt.Sprintf("%.1f ms", v)
	}
}

func join(parts []string) string { return strings.Join(parts, "; ") }
