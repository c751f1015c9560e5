package document

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
	kyaml "sigs.k8s.io/yaml"
)

// Document is one YAML document of a source. It is changed through its Objects.
type Document struct {
	// Where names it in messages: "mesh.yaml, document 2".
	Where string

	raw  []byte
	node yaml.Node
	// edits are changes of raw; rewrite says that there are changes that only node has.
	edits   []edit
	rewrite bool
}

// Parse reads the documents of a source.
func Parse(s Source) ([]*Document, error) {
	parts := split(s.Data)
	docs := make([]*Document, 0, len(parts))
	for i, raw := range parts {
		d := &Document{Where: s.Name, raw: raw}
		if len(parts) > 1 {
			d.Where = fmt.Sprintf("%s, document %d", s.Name, i+1)
		}
		if err := d.parse(); err != nil {
			return nil, fmt.Errorf("%s: %w", d.Where, err)
		}
		docs = append(docs, d)
	}
	return docs, nil
}

func (d *Document) parse() (err error) {
	defer func() {
		if r := recover(); r != nil { // go-yaml has panicked on hostile input before
			err = fmt.Errorf("is no YAML that can be read: %v", r)
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(d.raw))
	if err := dec.Decode(&d.node); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	var more yaml.Node
	switch err := dec.Decode(&more); {
	case errors.Is(err, io.EOF):
		return nil
	case err == nil:
		return errors.New("holds two documents that no line --- separates")
	default:
		return err
	}
}

// Object is one Kubernetes object: a document, or an item of a List.
type Object struct {
	Kind, APIVersion, Namespace, Name string

	doc  *Document
	node *yaml.Node
}

// Objects are the objects of d; a document without one, such as a comment, has none.
func (d *Document) Objects() ([]*Object, error) {
	if len(d.node.Content) == 0 || isNull(d.node.Content[0]) {
		return nil, nil
	}
	top := d.node.Content[0]
	if top.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s: line %d: want an object with apiVersion, kind and metadata", d.Where, top.Line)
	}
	o, err := d.object(top)
	if err != nil {
		return nil, err
	}
	items := child(top, "items")
	if !strings.HasSuffix(o.Kind, "List") || items == nil || items.Kind != yaml.SequenceNode {
		return []*Object{o}, nil
	}
	var all []*Object
	for _, item := range items.Content {
		item = resolve(item)
		if item.Kind != yaml.MappingNode {
			return nil, fmt.Errorf("%s: line %d: want an object with apiVersion, kind and metadata", d.Where, item.Line)
		}
		o, err := d.object(item)
		if err != nil {
			return nil, err
		}
		all = append(all, o)
	}
	return all, nil
}

func (d *Document) object(n *yaml.Node) (*Object, error) {
	o := &Object{Kind: text(child(n, "kind")), APIVersion: text(child(n, "apiVersion")), doc: d, node: n}
	if o.Kind == "" {
		return nil, fmt.Errorf("%s: line %d: the object has no kind", d.Where, n.Line)
	}
	if meta := child(n, "metadata"); meta != nil {
		o.Namespace, o.Name = text(child(meta, "namespace")), text(child(meta, "name"))
	}
	return o, nil
}

// String is how messages name o: "deployment shop/web".
func (o *Object) String() string {
	name := o.Name
	if name == "" {
		name = "without a name"
	}
	if o.Namespace != "" {
		name = o.Namespace + "/" + name
	}
	return strings.ToLower(o.Kind) + " " + name
}

// Decode reads what is at path of o into v as the API server would; nothing where there is none.
func (o *Object) Decode(path []string, v any) error {
	n := o.at(path)
	if n == nil {
		return nil
	}
	var plain any
	if err := n.Decode(&plain); err != nil {
		return fmt.Errorf("%s: %w", o.doc.Where, err)
	}
	b, err := kyaml.Marshal(plain)
	if err == nil {
		err = kyaml.Unmarshal(b, v)
	}
	if err != nil {
		return fmt.Errorf("%s: %s: %w", o.doc.Where, o, err)
	}
	return nil
}

func (o *Object) at(path []string) *yaml.Node {
	n := o.node
	for _, key := range path {
		if n = child(n, key); n == nil {
			return nil
		}
	}
	return n
}

// Bytes is d with its changes.
func (d *Document) Bytes() ([]byte, error) {
	switch {
	case d.rewrite:
		return d.encode()
	case len(d.edits) > 0:
		return apply(d.raw, d.edits), nil
	}
	return d.raw, nil
}

// encode writes the node in the habit of the document. What was JSON becomes YAML, which is the same to
// all readers and has room for comments.
func (d *Document) encode() ([]byte, error) {
	var out bytes.Buffer
	if isSeparator(d.raw) {
		out.WriteString("---\n")
	}
	unflow(&d.node)
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if d.isCompact() {
		e.CompactSeqIndent()
	}
	if err := e.Encode(&d.node); err != nil {
		return nil, fmt.Errorf("%s: %w", d.Where, err)
	}
	return out.Bytes(), e.Close()
}

// unflow turns a document that is JSON as a whole into block style; small flow lists in YAML stay.
func unflow(doc *yaml.Node) {
	if len(doc.Content) == 0 || doc.Content[0].Style&yaml.FlowStyle == 0 {
		return
	}
	var walk func(n *yaml.Node)
	walk = func(n *yaml.Node) {
		n.Style &^= yaml.FlowStyle
		if n.Kind == yaml.ScalarNode && n.Style == yaml.DoubleQuotedStyle && n.Tag == "!!str" {
			n.Style = scalar(n.Value).Style // "on" stays quoted: kubectl reads YAML 1.1
		}
		for _, c := range n.Content {
			walk(c)
		}
	}
	walk(doc)
}

// isCompact reports whether lists stand at the column of their key, as kubectl writes them.
func (d *Document) isCompact() bool {
	compact, found := false, false
	var walk func(n *yaml.Node)
	walk = func(n *yaml.Node) {
		for i := 0; i+1 < len(n.Content) && n.Kind == yaml.MappingNode && !found; i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			if value.Kind == yaml.SequenceNode && value.Style&yaml.FlowStyle == 0 && value.Line > key.Line {
				compact, found = value.Column == key.Column, true
			}
		}
		for _, c := range n.Content {
			if !found {
				walk(c)
			}
		}
	}
	walk(&d.node)
	return compact
}

// JSON is d with its changes as what encoding/json writes; nil for a document without an object.
func (d *Document) JSON() (any, error) {
	b, err := d.Bytes()
	if err != nil {
		return nil, err
	}
	if b, err = kyaml.YAMLToJSON(b); err != nil {
		return nil, fmt.Errorf("%s: %w", d.Where, err)
	}
	var v any
	err = json.Unmarshal(b, &v)
	return v, err
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// resolve follows an alias.
func resolve(n *yaml.Node) *yaml.Node {
	if n != nil && n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// child is the value of key in a mapping; nil: there is none.
func child(n *yaml.Node, key string) *yaml.Node {
	if n = resolve(n); n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return resolve(n.Content[i+1])
		}
	}
	return nil
}

func text(n *yaml.Node) string {
	if n == nil || n.Kind != yaml.ScalarNode {
		return ""
	}
	return n.Value
}
