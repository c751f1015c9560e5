package document

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// edit inserts text before a line, or takes a line out. Lines count from 1.
type edit struct {
	line int
	text string
	gone bool
}

// apply makes edits in raw.
func apply(raw []byte, edits []edit) []byte {
	lines := slices.Collect(bytes.Lines(raw))
	end := []byte("\n")
	if bytes.Contains(raw, []byte("\r\n")) {
		end = []byte("\r\n")
	}
	edits = slices.Clone(edits)
	slices.SortStableFunc(edits, func(a, b edit) int { return cmp.Compare(a.line, b.line) })
	var out bytes.Buffer
	for i, line := range lines {
		gone := false
		for len(edits) > 0 && edits[0].line == i+1 {
			gone = gone || edits[0].gone
			out.Write(bytes.ReplaceAll([]byte(edits[0].text), []byte("\n"), end))
			edits = edits[1:]
		}
		if !gone {
			out.Write(line)
		}
	}
	return out.Bytes()
}

// Annotate sets annotations in the metadata at path of o. Where the document is block style, lines are
// put in and nothing else changes; else the document is written anew.
func (o *Object) Annotate(path []string, annotations map[string]string) {
	keys := slices.Sorted(maps.Keys(annotations))
	if !o.insert(path, keys, annotations) {
		o.doc.rewrite = true
	}
	// The node has the change as well: what comes later may write the document anew.
	meta := ensure(ensure(ensurePath(o.node, path), "metadata"), "annotations")
	for _, k := range keys {
		set(meta, k, annotations[k])
	}
}

// insert finds the line where the annotations belong.
func (o *Object) insert(path, keys []string, annotations map[string]string) bool {
	holder := o.at(path)
	if !isBlock(holder) {
		return false
	}
	var text strings.Builder
	line, indent := holder.Content[0].Line, holder.Content[0].Column-1
	meta := child(holder, "metadata")
	switch {
	case meta == nil && len(path) > 0:
		text.WriteString(strings.Repeat(" ", indent) + "metadata:\n")
		indent += 2
	case !isBlock(meta):
		return false
	default:
		line, indent = meta.Content[0].Line, meta.Content[0].Column-1
	}
	switch block := child(meta, "annotations"); {
	case block == nil:
		text.WriteString(strings.Repeat(" ", indent) + "annotations:\n")
		indent += 2
	case !isBlock(block):
		return false
	default:
		line, indent = block.Content[0].Line, block.Content[0].Column-1
		keys = slices.DeleteFunc(slices.Clone(keys), func(k string) bool { return isValue(child(block, k), annotations[k]) })
		if slices.ContainsFunc(keys, func(k string) bool { return child(block, k) != nil }) {
			return false // a value changes
		}
	}
	for _, k := range keys {
		text.WriteString(strings.Repeat(" ", indent) + k + ": " + quote(annotations[k]) + "\n")
	}
	if !o.doc.isFirstOnLine(line, columnOf(holder, meta)) {
		return false // "- metadata:", where a line before would belong to another item
	}
	o.doc.edits = append(o.doc.edits, edit{line: line, text: text.String()})
	return true
}

// columnOf is the column of the key before which lines are put.
func columnOf(holder, meta *yaml.Node) int {
	if meta == nil {
		return holder.Content[0].Column
	}
	if a := child(meta, "annotations"); a != nil {
		return a.Content[0].Column
	}
	return meta.Content[0].Column
}

// isFirstOnLine reports whether nothing but spaces stands before a column of a line.
func (d *Document) isFirstOnLine(line, column int) bool {
	i := 0
	for text := range bytes.Lines(d.raw) {
		if i++; i == line {
			return column-1 <= len(text) && len(bytes.TrimLeft(text[:column-1], " ")) == 0
		}
	}
	return false
}

// Unannotate takes the annotations that are gone out of the metadata at path of o, and the mapping that
// they leave empty. It reports whether there was one.
func (o *Object) Unannotate(path []string, isGone func(key, value string) bool) bool {
	meta := child(o.at(path), "metadata")
	block := child(meta, "annotations")
	if block == nil {
		return false
	}
	var gone []edit
	inLines, removed := isBlock(block), false
	for i := 0; i+1 < len(block.Content); i += 2 {
		key, value := block.Content[i], block.Content[i+1]
		if !isGone(key.Value, value.Value) {
			continue
		}
		removed = true
		inLines = inLines && value.Line == key.Line && value.Style&(yaml.LiteralStyle|yaml.FoldedStyle) == 0 &&
			o.doc.isFirstOnLine(key.Line, key.Column) && o.doc.endsOnItsLine(key)
		gone = append(gone, edit{line: key.Line, gone: true})
		block.Content = slices.Delete(block.Content, i, i+2)
		i -= 2
	}
	if removed && len(block.Content) == 0 {
		line, ok := o.doc.unkey(meta, "annotations")
		inLines = inLines && ok
		gone = append(gone, edit{line: line, gone: true})
	}
	switch {
	case !removed:
	case inLines:
		o.doc.edits = append(o.doc.edits, gone...)
	default:
		o.doc.rewrite = true
	}
	return removed
}

// endsOnItsLine reports whether the value of key is over at the end of its line: what follows is not
// indented deeper.
func (d *Document) endsOnItsLine(key *yaml.Node) bool {
	lines := slices.Collect(bytes.Lines(d.raw))
	for _, text := range lines[key.Line:] {
		trimmed := bytes.TrimLeft(text, " ")
		if len(bytes.TrimSpace(trimmed)) == 0 || trimmed[0] == '#' {
			continue
		}
		return len(text)-len(trimmed) <= key.Column-1 // deeper: a value over several lines
	}
	return true
}

// unkey takes a key with its value out of a mapping's node and says on which line it stood alone.
func (d *Document) unkey(n *yaml.Node, name string) (line int, alone bool) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if key := n.Content[i]; key.Value == name {
			line, alone = key.Line, isBlock(n) && d.isFirstOnLine(key.Line, key.Column)
			n.Content = slices.Delete(n.Content, i, i+2)
			return line, alone && len(n.Content) > 0
		}
	}
	return 0, false
}

// isBlock reports whether n is a mapping in block style with something in it, without anchors.
func isBlock(n *yaml.Node) bool {
	return n != nil && n.Kind == yaml.MappingNode && n.Style&yaml.FlowStyle == 0 && len(n.Content) > 0 && n.Anchor == ""
}

func isValue(n *yaml.Node, v string) bool {
	return n != nil && n.Kind == yaml.ScalarNode && n.Value == v
}

// quote writes a value as a YAML string.
func quote(v string) string {
	b, err := yaml.Marshal(v)
	if s := strings.TrimSuffix(string(b), "\n"); err == nil && !strings.Contains(s, "\n") {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(v) + `"`
}
