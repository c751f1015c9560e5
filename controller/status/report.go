package status

import (
	"cmp"
	"fmt"
	"strings"
)

// Severity says what a Report means for the mesh.
type Severity string

// Severities.
const (
	// Broken: what the source says cannot be used; its last good state holds.
	Broken Severity = "broken"
	// Ignored: the object, or a part of it, has no effect.
	Ignored Severity = "ignored"
	// Notice: it works, but perhaps not as meant.
	Notice Severity = "notice"
)

// Object names what a Report is about.
type Object struct {
	Kind      string `json:"kind,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
}

// String is "HTTPRoute shop/x".
func (o Object) String() string {
	name := o.Name
	if o.Namespace != "" {
		name = o.Namespace + "/" + name
	}
	return strings.TrimSpace(o.Kind + " " + name)
}

// Problem is one thing about an object, where it is known but not yet where it came from.
type Problem struct {
	Severity Severity
	Field    string // "spec.rules[0].filters"; empty for the object itself
	Message  string
}

// Report is one thing that people should know.
type Report struct {
	Object
	Severity Severity `json:"severity"`
	File     string   `json:"file,omitempty"`
	Line     int      `json:"line,omitempty"`
	Message  string   `json:"message"`
}

// Of makes a Report of a Problem.
func Of(o Object, p Problem) Report {
	m := p.Message
	if p.Field != "" {
		m = strings.TrimPrefix(p.Field, "spec.") + " " + m
	}
	return Report{Object: o, Severity: p.Severity, Message: m}
}

// String is "shop.yaml:12: HTTPRoute shop/x: rules[0].filters is not supported yet".
func (r Report) String() string {
	var b strings.Builder
	if r.File != "" {
		b.WriteString(r.File)
		if r.Line > 0 {
			fmt.Fprintf(&b, ":%d", r.Line)
		}
		b.WriteString(": ")
	}
	if o := r.Object.String(); o != "" {
		b.WriteString(o + ": ")
	}
	return b.String() + r.Message
}

func compare(a, b Report) int {
	return cmp.Or(
		cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line),
		cmp.Compare(a.Object.String(), b.Object.String()), cmp.Compare(a.Message, b.Message),
	)
}
