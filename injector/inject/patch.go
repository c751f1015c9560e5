package inject

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Operation is one step of a JSON patch (RFC 6902).
type Operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// Patch returns the steps from one object to another of the same type. It says no more than what differs:
// fields that this version of the Kubernetes API does not know stay in the object that it is applied to.
func Patch(before, after any) ([]Operation, error) {
	a, err := generic(before)
	if err != nil {
		return nil, err
	}
	b, err := generic(after)
	if err != nil {
		return nil, err
	}
	var d differ
	d.compare("", a, b)
	return d.steps, nil
}

// generic is v the way that encoding/json reads it without a type.
func generic(v any) (any, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("write %T: %w", v, err)
	}
	var out any
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.UseNumber()
	if err := d.Decode(&out); err != nil {
		return nil, fmt.Errorf("read %T: %w", v, err)
	}
	return out, nil
}

type differ struct{ steps []Operation }

func (d *differ) add(op, path string, value any) {
	d.steps = append(d.steps, Operation{Op: op, Path: path, Value: value})
}

func (d *differ) compare(path string, a, b any) {
	if reflect.DeepEqual(a, b) {
		return
	}
	am, aok := a.(map[string]any)
	bm, bok := b.(map[string]any)
	if aok && bok {
		d.object(path, am, bm)
		return
	}
	al, aok := a.([]any)
	bl, bok := b.([]any)
	if aok && bok && areNamed(al) && areNamed(bl) && d.list(path, al, bl) {
		return
	}
	d.add("replace", path, b)
}

func (d *differ) object(path string, a, b map[string]any) {
	for _, key := range slices.Sorted(maps.Keys(a)) {
		if _, stays := b[key]; !stays {
			d.add("remove", path+"/"+pointer(key), nil)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(b)) {
		at := path + "/" + pointer(key)
		if old, was := a[key]; was {
			d.compare(at, old, b[key])
		} else {
			d.add("add", at, b[key])
		}
	}
}

// list compares lists of things with names. What goes is removed from the end on, what comes is added
// from the beginning on; false when something that stays has changed its place.
func (d *differ) list(path string, a, b []any) bool {
	var kept, found []any
	for _, x := range a {
		if indexOf(b, nameOf(x)) >= 0 {
			kept = append(kept, x)
		}
	}
	for _, x := range b {
		if indexOf(a, nameOf(x)) >= 0 {
			found = append(found, x)
		}
	}
	for i := range kept {
		if nameOf(kept[i]) != nameOf(found[i]) {
			return false
		}
	}
	for i, x := range slices.Backward(a) {
		if indexOf(b, nameOf(x)) < 0 {
			d.add("remove", fmt.Sprintf("%s/%d", path, i), nil)
		}
	}
	for i, x := range b {
		at := fmt.Sprintf("%s/%d", path, i)
		if j := indexOf(a, nameOf(x)); j >= 0 {
			d.compare(at, a[j], x)
		} else {
			d.add("add", at, x)
		}
	}
	return true
}

// areNamed reports whether every element is an object with a name of its own.
func areNamed(list []any) bool {
	seen := map[string]bool{}
	for _, x := range list {
		name := nameOf(x)
		if name == "" || seen[name] {
			return false
		}
		seen[name] = true
	}
	return true
}

func nameOf(x any) string {
	m, _ := x.(map[string]any)
	name, _ := m["name"].(string)
	return name
}

func indexOf(list []any, name string) int {
	for i, x := range list {
		if nameOf(x) == name {
			return i
		}
	}
	return -1
}

// pointer writes a key the way that RFC 6901 wants it.
func pointer(key string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
}
