package document

import (
	"encoding/json"
	"reflect"
	"slices"

	"go.yaml.in/yaml/v3"
)

// Replace changes what is at path of o from before to after, both as encoding/json sees them: only what
// differs between the two is touched, so that fields which neither knows stay.
func (o *Object) Replace(path []string, before, after any) error {
	a, err := plain(before)
	if err != nil {
		return err
	}
	b, err := plain(after)
	if err != nil {
		return err
	}
	if reflect.DeepEqual(a, b) {
		return nil
	}
	o.doc.rewrite = true
	return merge(ensurePath(o.node, path), a, b)
}

func plain(v any) (map[string]any, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var m map[string]any
	err = json.Unmarshal(b, &m)
	return m, err
}

// merge puts into n what b has and a has not, and takes out what a has and b has not.
func merge(n *yaml.Node, a, b map[string]any) error {
	for key := range a {
		if _, stays := b[key]; !stays {
			remove(n, key)
		}
	}
	for _, key := range sortedKeys(b) {
		old, had := a[key]
		if had && reflect.DeepEqual(old, b[key]) {
			continue
		}
		at := child(n, key)
		switch v := b[key].(type) {
		case map[string]any:
			oldMap, _ := old.(map[string]any)
			if at == nil || at.Kind != yaml.MappingNode {
				at = ensure(n, key)
			}
			if err := merge(at, oldMap, v); err != nil {
				return err
			}
			continue
		case []any:
			oldList, _ := old.([]any)
			if at != nil && at.Kind == yaml.SequenceNode && isNamed(v) && isNamed(oldList) {
				if err := mergeList(at, oldList, v); err != nil {
					return err
				}
				continue
			}
		}
		value, err := encode(b[key])
		if err != nil {
			return err
		}
		put(n, key, value)
	}
	return nil
}

// mergeList merges lists whose items have names: containers, volumes, ports with names.
func mergeList(n *yaml.Node, a, b []any) error {
	n.Style &^= yaml.FlowStyle
	var content []*yaml.Node
	for _, item := range b {
		m, _ := item.(map[string]any)
		name := m["name"]
		i := slices.IndexFunc(n.Content, func(c *yaml.Node) bool { return text(child(c, "name")) == name })
		j := slices.IndexFunc(a, func(o any) bool { return o.(map[string]any)["name"] == name })
		if i < 0 || j < 0 {
			added, err := encode(item)
			if err != nil {
				return err
			}
			content = append(content, added)
			continue
		}
		kept := resolve(n.Content[i])
		old, _ := a[j].(map[string]any)
		if err := merge(kept, old, m); err != nil {
			return err
		}
		content = append(content, n.Content[i])
	}
	n.Content = content
	return nil
}

func isNamed(list []any) bool {
	names := map[string]bool{}
	for _, item := range list {
		m, ok := item.(map[string]any)
		name, named := m["name"].(string)
		if !ok || !named || names[name] {
			return false
		}
		names[name] = true
	}
	return true
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// encode makes a node of a value that encoding/json read: keys sorted, but name first, as people write.
func encode(v any) (*yaml.Node, error) {
	if m, ok := v.(map[string]any); ok {
		n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		keys := sortedKeys(m)
		if i := slices.Index(keys, "name"); i > 0 {
			keys = slices.Concat([]string{"name"}, keys[:i], keys[i+1:])
		}
		for _, k := range keys {
			value, err := encode(m[k])
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, scalar(k), value)
		}
		return n, nil
	}
	if list, ok := v.([]any); ok {
		n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		for _, item := range list {
			value, err := encode(item)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, value)
		}
		return n, nil
	}
	var n yaml.Node
	if f, ok := v.(float64); ok && f == float64(int64(f)) {
		v = int64(f)
	}
	return &n, n.Encode(v)
}

// scalar is a string, quoted where one of the YAMLs that are about would read something else.
func scalar(s string) *yaml.Node {
	var n yaml.Node
	if err := n.Encode(s); err != nil {
		panic("BUG: " + err.Error())
	}
	return &n
}

// ensurePath is the mapping at path below n, made where there is none.
func ensurePath(n *yaml.Node, path []string) *yaml.Node {
	for _, key := range path {
		n = ensure(n, key)
	}
	return n
}

func ensure(n *yaml.Node, key string) *yaml.Node {
	if c := child(n, key); c != nil && c.Kind == yaml.MappingNode {
		return c
	}
	c := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	put(n, key, c)
	return c
}

func set(n *yaml.Node, key, value string) { put(n, key, scalar(value)) }

// put sets key in a mapping; metadata and annotations come where people look for them: first.
func put(n *yaml.Node, key string, value *yaml.Node) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			value.LineComment, value.HeadComment = n.Content[i+1].LineComment, n.Content[i+1].HeadComment
			n.Content[i+1] = value
			return
		}
	}
	pair := []*yaml.Node{scalar(key), value}
	if key == "metadata" || key == "annotations" {
		n.Content = append(pair, n.Content...)
		return
	}
	n.Content = append(n.Content, pair...)
}

func remove(n *yaml.Node, key string) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			n.Content = slices.Delete(n.Content, i, i+2)
			return
		}
	}
}
