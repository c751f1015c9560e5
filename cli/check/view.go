package check

import (
	"fmt"
	"strings"

	"github.com/tulle-mesh/tulle/cli/console"
	"github.com/tulle-mesh/tulle/cli/exit"
	"github.com/tulle-mesh/tulle/internal/run"
)

// view shows results: as they come for people, at the end as JSON.
type view struct {
	con       *console.Console
	format    console.Format
	namespace string

	group   string
	line    bool // a line "waiting" stands on the terminal
	blocked int  // checks that were not made
	counts  map[Status]int
	report  jsonReport
	printed bool
}

type jsonReport struct {
	Success bool        `json:"success"`
	Groups  []jsonGroup `json:"groups"`
}

type jsonGroup struct {
	Name   string      `json:"name"`
	Checks []jsonCheck `json:"checks"`
}

type jsonCheck struct {
	Name     string   `json:"name"`
	Anchor   string   `json:"anchor"`
	Result   Status   `json:"result"`
	Note     string   `json:"note,omitempty"`
	Problems []string `json:"problems,omitempty"`
	Hint     string   `json:"hint,omitempty"`
	See      string   `json:"see,omitempty"`
	Fix      string   `json:"fix,omitempty"`
}

func newView(con *console.Console, f console.Format, namespace string) *view {
	return &view{con: con, format: f, namespace: namespace, counts: map[Status]int{}, report: jsonReport{Groups: []jsonGroup{}}}
}

// Symbols of the statuses, each with a style.
var symbols = map[Status]struct {
	sign  string
	style console.Style
}{
	OK: {"✓", console.Good}, Warning: {"!", console.Doubt}, Failure: {"×", console.Bad}, Skipped: {"-", console.Faint},
}

// hint is the check's, with the namespace that it is about.
func (v *view) hint(r *Result) string {
	if r.Status != Failure && r.Status != Warning {
		return ""
	}
	if r.Try != "" {
		return r.Try
	}
	if r.Group == groupInstallation || r.Group == groupCertificates || strings.Contains(r.Hint, "deploy/tulle") {
		return strings.ReplaceAll(r.Hint, "NAMESPACE", v.namespace) // it is about the control plane
	}
	return r.Hint
}

func (v *view) result(r Result) {
	v.end()
	if r.Blocked && v.format != console.JSON {
		v.blocked++
		return
	}
	v.counts[r.Status]++
	if v.format == console.JSON {
		v.collect(&r)
		return
	}
	bad := r.Status == Failure || r.Status == Warning
	if v.format == console.Short && !bad {
		return
	}
	if r.Group != v.group {
		if v.printed {
			fmt.Fprintln(v.con.Out)
		}
		v.group, v.printed = r.Group, true
		fmt.Fprintln(v.con.Out, v.con.Paint(console.Strong, r.Group))
	}
	s := symbols[r.Status]
	note := ""
	if r.Note != "" && !bad {
		note = v.con.Paint(console.Faint, " ("+console.Clean(r.Note)+")")
	}
	fmt.Fprintf(v.con.Out, "%s %s%s\n", v.con.Paint(s.style, s.sign), r.Name, note)
	if !bad {
		return
	}
	for _, p := range r.Problems {
		fmt.Fprintf(v.con.Out, "    %s\n", strings.ReplaceAll(console.Clean(strings.ReplaceAll(p, "\n", "; ")), "\n", " "))
	}
	fmt.Fprintf(v.con.Out, "    try: %s\n    see: %s\n", v.hint(&r), r.See())
	if r.Fix != "" {
		fmt.Fprintln(v.con.Out, "    this would mend it:")
		for line := range strings.Lines(r.Fix) {
			fmt.Fprintf(v.con.Out, "      %s", line)
		}
	}
}

func (v *view) collect(r *Result) {
	groups := &v.report.Groups
	if n := len(*groups); n == 0 || (*groups)[n-1].Name != r.Group {
		*groups = append(*groups, jsonGroup{Name: r.Group})
	}
	g := &(*groups)[len(*groups)-1]
	c := jsonCheck{Name: r.Name, Anchor: r.Anchor, Result: r.Status, Note: r.Note, Problems: r.Problems, Hint: v.hint(r), Fix: r.Fix}
	if c.Hint != "" {
		c.See, c.Note = r.See(), ""
	}
	g.Checks = append(g.Checks, c)
}

// waiting says on a terminal what is waited for.
func (v *view) waiting(c *Check, f Finding) {
	if !v.con.Live() {
		return
	}
	v.end()
	fmt.Fprintf(v.con.Err, "… %s: %s", c.Name, console.Clean(f.Problems[0]))
	v.line = true
}

// end takes the line "waiting" away.
func (v *view) end() {
	if v.line {
		fmt.Fprint(v.con.Err, "\r\x1b[K")
		v.line = false
	}
}

// finish says how it ended, also as the exit code.
func (v *view) finish() error {
	v.report.Success = v.counts[Failure] == 0
	if v.format == console.JSON {
		if err := v.con.Write(console.JSON, v.report, nil); err != nil {
			return err
		}
	} else {
		v.summary()
	}
	if !v.report.Success {
		return &run.ExitError{Code: exit.Unhealthy}
	}
	return nil
}

func (v *view) summary() {
	word := v.con.Paint(console.Good, "all is well")
	switch {
	case v.counts[Failure] > 0:
		word = v.con.Paint(console.Bad, fmt.Sprintf("%d failed", v.counts[Failure]))
		if n := v.counts[Warning]; n > 0 {
			word += ", " + count(n, "warning")
		}
	case v.counts[Warning] > 0:
		word = v.con.Paint(console.Doubt, count(v.counts[Warning], "warning"))
	}
	if v.printed {
		fmt.Fprintln(v.con.Out)
	}
	if v.blocked > 0 {
		word += fmt.Sprintf("; %s could not be made", count(v.blocked, "check"))
	}
	fmt.Fprintf(v.con.Out, "%s: %s\n", count(v.counts[OK]+v.counts[Warning]+v.counts[Failure], "check"), word)
}
