package files

import (
	"bytes"
	"iter"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// document is one YAML document of a file.
type document struct {
	data []byte
	line int // of its first line, counted from 1
}

// documents splits a file at its "---" lines.
func documents(data []byte) iter.Seq[document] {
	return func(yield func(document) bool) {
		line, first, start := 0, 1, 0
		emit := func(end int) bool {
			d := document{data: data[start:end], line: first}
			return len(bytes.TrimSpace(d.data)) == 0 || yield(d)
		}
		for at := 0; at < len(data); {
			end := len(data)
			if n := bytes.IndexByte(data[at:], '\n'); n >= 0 {
				end = at + n + 1
			}
			line++
			if separator(data[at:end]) {
				if !emit(at) {
					return
				}
				first, start = line+1, end
			}
			at = end
		}
		emit(len(data))
	}
}

// separator reports whether a line is a document's start (YAML 1.2, 9.1.2). What stands behind the
// marker on the same line may only be a comment.
func separator(line []byte) bool {
	rest, ok := bytes.CutPrefix(line, []byte("---"))
	if !ok {
		return false
	}
	trimmed := bytes.TrimSpace(rest)
	return len(trimmed) == 0 || trimmed[0] == '#' && len(rest) > 0 && (rest[0] == ' ' || rest[0] == '\t')
}

// place is where in a file something was read.
type place struct {
	line   int
	source []byte // of the document; nil when lines within it cannot be found
}

var (
	yamlLine  = regexp.MustCompile(`line (\d+)`)
	fieldType = regexp.MustCompile(`cannot unmarshal (\w+) into Go struct field \w+\.([\w.]+) of type (\S+)`)
	unknown   = regexp.MustCompile(`unknown field "([^"]+)"|duplicate field "([^"]+)"`)
	prefixes  = regexp.MustCompile(`^(error converting YAML to JSON: |yaml: |unmarshal errors:\s*|json: |line \d+: )+`)
)

// clean takes from an error what names its maker, and the line, which the report has.
func clean(s string) string {
	s = strings.ReplaceAll(s, "\n", " ")
	s = fieldType.ReplaceAllString(s, "$2 is a $1, want $3")
	return strings.TrimSpace(prefixes.ReplaceAllString(s, ""))
}

// at is the place that an error of a decoder names, as well as it does.
func (p place) at(err error) place {
	s := err.Error()
	if m := yamlLine.FindStringSubmatch(s); m != nil {
		n, _ := strconv.Atoi(m[1])
		return place{line: p.line + max(n, 1) - 1}
	}
	if m := fieldType.FindStringSubmatch(s); m != nil {
		return place{line: p.of(m[2])}
	}
	if m := unknown.FindStringSubmatch(s); m != nil {
		return place{line: p.of(m[1] + m[2])}
	}
	return p
}

// of is the line of a field such as "spec.ports[0].port", or of the nearest thing around it.
func (p place) of(field string) int {
	if field == "" || p.source == nil {
		return p.first()
	}
	var root yaml.Node
	if err := yaml.Unmarshal(p.source, &root); err != nil || len(root.Content) == 0 {
		return p.first()
	}
	node, line := root.Content[0], root.Content[0].Line
	for _, step := range steps(field) {
		next, at := child(node, step)
		if next == nil {
			break
		}
		node, line = next, at
	}
	return p.line + line - 1
}

// first is the first line of a document that says something.
func (p place) first() int {
	line := p.line
	for text := range bytes.Lines(p.source) {
		if t := bytes.TrimSpace(text); len(t) > 0 && t[0] != '#' {
			return line
		}
		line++
	}
	return p.line
}

// steps splits "metadata.annotations[a.b/c].x" and "ports[0].port".
func steps(field string) []string {
	var out []string
	for field != "" {
		if field[0] == '[' {
			key, rest, _ := strings.Cut(field[1:], "]")
			out = append(out, key)
			field = strings.TrimPrefix(rest, ".")
			continue
		}
		end := strings.IndexAny(field, ".[")
		if end < 0 {
			return append(out, field)
		}
		out = append(out, field[:end])
		field = strings.TrimPrefix(field[end:], ".")
	}
	return out
}

// child is the node below n and the line that it begins in: that of its key.
func child(n *yaml.Node, step string) (*yaml.Node, int) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == step {
				return n.Content[i+1], n.Content[i].Line
			}
		}
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(n.Content) {
			return n.Content[i], n.Content[i].Line
		}
	}
	return nil, 0
}
