package document

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	kyaml "sigs.k8s.io/yaml"
)

const deployment = `apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  template:
    spec: {}
`

var template = []string{"spec", "template"}

// edited parses text, changes each object and returns what becomes of it.
func edited(t *testing.T, text string, change func(*Object)) string {
	t.Helper()
	docs, err := Parse(Source{"test.yaml", []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, d := range docs {
		objects, err := d.Objects()
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range objects {
			change(o)
		}
		b, err := d.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
	}
	return out.String()
}

func annotate(o *Object) { o.Annotate(template, map[string]string{"a/b": "on", "a/c": "3306"}) }

func TestAnAnnotationIsPutInAndNothingElseChanges(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"without metadata", "kind: D\nspec:\n  template:\n    spec: {}\n", "kind: D\nspec:\n  template:\n    metadata:\n      annotations:\n        a/b: \"on\"\n        a/c: \"3306\"\n    spec: {}\n"},
		{
			"beside labels", "kind: D\nspec:\n  template:\n    metadata:\n      labels: {x: y}   # kept\n",
			"kind: D\nspec:\n  template:\n    metadata:\n      annotations:\n        a/b: \"on\"\n        a/c: \"3306\"\n      labels: {x: y}   # kept\n",
		},
		{
			"beside annotations, one of which is right", "kind: D\nspec:\n  template:\n    metadata:\n      annotations:\n        # why\n        z: \"1\"\n        a/b: on\n",
			"kind: D\nspec:\n  template:\n    metadata:\n      annotations:\n        # why\n        a/c: \"3306\"\n        z: \"1\"\n        a/b: on\n",
		},
		{
			"with wide indentation", "kind: D\nspec:\n    template:\n        spec: {}\n",
			"kind: D\nspec:\n    template:\n        metadata:\n          annotations:\n            a/b: \"on\"\n            a/c: \"3306\"\n        spec: {}\n",
		},
		{
			"with lines of another system", "kind: D\r\nspec:\r\n  template:\r\n    spec: {}\r\n",
			"kind: D\r\nspec:\r\n  template:\r\n    metadata:\r\n      annotations:\r\n        a/b: \"on\"\r\n        a/c: \"3306\"\r\n    spec: {}\r\n",
		},
		{
			"in flow style", "kind: D\nspec: {template: {spec: {}}}\n",
			"kind: D\nspec: {template: {metadata: {annotations: {a/b: \"on\", a/c: \"3306\"}}, spec: {}}}\n",
		},
		{
			"with another value", "kind: D\nspec:\n  template:\n    metadata:\n      annotations:\n        a/b: \"off\" # was\n",
			"kind: D\nspec:\n  template:\n    metadata:\n      annotations:\n        a/c: \"3306\"\n        a/b: \"on\" # was\n",
		},
		{"empty annotations", "kind: D\nspec:\n  template:\n    metadata:\n      annotations: {}\n", "kind: D\nspec:\n  template:\n    metadata:\n      annotations: {a/b: \"on\", a/c: \"3306\"}\n"},
		{"no value at all", "kind: D\nspec:\n  template:\n    metadata:\n", "kind: D\nspec:\n  template:\n    metadata:\n      annotations:\n        a/b: \"on\"\n        a/c: \"3306\"\n"},
	} {
		if got := edited(t, c.in, annotate); !means(t, got, c.want) || strings.Contains(c.name, "label") && got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
}

// means reports whether two texts hold the same values.
func means(t *testing.T, a, b string) bool {
	t.Helper()
	var x, y any
	if err := kyaml.Unmarshal([]byte(a), &x); err != nil {
		t.Fatalf("%v:\n%s", err, a)
	}
	if err := kyaml.Unmarshal([]byte(b), &y); err != nil {
		t.Fatalf("%v:\n%s", err, b)
	}
	return reflect.DeepEqual(x, y)
}

func TestWhatWasPutInIsTakenOutToTheByte(t *testing.T) {
	for _, in := range []string{
		deployment,
		"# head\n" + deployment + "# tail\n",
		strings.Replace(deployment, "template:\n", "template:\n    metadata:\n      # labels\n      labels:\n        app: web # x\n\n", 1),
		strings.Replace(deployment, "template:\n", "template:\n    metadata:\n      annotations:\n        other: \"1\"\n", 1),
		strings.ReplaceAll(deployment, "\n", "\r\n"),
	} {
		there := edited(t, in, annotate)
		back := edited(t, there, func(o *Object) {
			if !o.Unannotate(template, func(k, _ string) bool { return strings.HasPrefix(k, "a/") }) {
				t.Error("there was something to take out")
			}
		})
		if strings.Contains(in, "metadata:\n      ") && back != in || !means(t, strings.ReplaceAll(back, "    metadata: {}\n", ""), in) {
			t.Errorf("got\n%s\nwant\n%s\nby way of\n%s", back, in, there)
		}
	}
}

func TestReplaceTouchesOnlyWhatDiffers(t *testing.T) {
	const in = `kind: Pod
# about the spec
spec:
  unknown: {kept: true}
  containers:
  - name: b   # second
    image: old
    strange: field
  - name: a
    image: a
`
	before := map[string]any{"containers": []any{
		map[string]any{"name": "b", "image": "old"}, map[string]any{"name": "a", "image": "a"},
	}}
	after := map[string]any{
		"containers": []any{
			map[string]any{"name": "proxy", "image": "p"}, map[string]any{"name": "b", "image": "new"}, map[string]any{"name": "a", "image": "a"},
		},
		"volumes": []any{map[string]any{"name": "v"}},
	}
	there := edited(t, in, func(o *Object) {
		if err := o.Replace([]string{"spec"}, before, after); err != nil {
			t.Fatal(err)
		}
	})
	for _, want := range []string{"# about the spec", "unknown: {kept: true}", "- name: b # second\n    image: new\n    strange: field", "- name: proxy\n    image: p\n  - name: b"} {
		if !strings.Contains(there, want) {
			t.Errorf("%q is missing:\n%s", want, there)
		}
	}
	back := edited(t, there, func(o *Object) {
		if err := o.Replace([]string{"spec"}, after, before); err != nil {
			t.Fatal(err)
		}
	})
	if back != strings.Replace(in, "b   #", "b #", 1) {
		t.Errorf("there and back: got\n%s", back)
	}
}

func TestDocumentsAreFound(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     []string
	}{
		{"one", deployment, []string{"deployment web"}},
		{"comments alone", "# a\n---\n# b\n---\n", nil},
		{"two", deployment + "---\n" + deployment, []string{"deployment web", "deployment web"}},
		{"with a comment on the line", "--- # first\n" + deployment, []string{"deployment web"}},
		{"a separator in a text", "kind: ConfigMap\nmetadata: {name: x}\ndata:\n  a: |\n    ---\n    b\n", []string{"configmap x"}},
		{"a list", "kind: List\nitems:\n- kind: A\n  metadata: {name: x, namespace: n}\n- kind: B\n", []string{"a n/x", "b without a name"}},
		{"JSON", `{"kind": "Pod", "metadata": {"name": "x"}}`, []string{"pod x"}},
	} {
		docs, err := Parse(Source{"x", []byte(c.in)})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		var raw []byte
		for _, d := range docs {
			objects, err := d.Objects()
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range objects {
				got = append(got, o.String())
			}
			b, err := d.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			raw = append(raw, b...)
		}
		if !reflect.DeepEqual(got, c.want) || !bytes.Equal(raw, []byte(c.in)) {
			t.Errorf("%s: got %q and\n%s", c.name, got, raw)
		}
	}
}

func TestWhatIsNoObjectIsSaid(t *testing.T) {
	for in, want := range map[string]string{
		"[1, 2]\n":                         "x: line 1: want an object",
		"metadata: {}\n":                   "x: line 1: the object has no kind",
		"kind: List\nitems:\n- [a]\n":      "x: line 3: want an object",
		"kind: List\nitems:\n- {a: b}\n":   "x: line 3: the object has no kind",
		"kind: A\n---\n\n- b\n":            "x, document 2: line 3: want an object",
		"kind: A\n---\nkind: [\n":          "x, document 2: yaml:",
		"kind: A\n...\nkind: B\n":          "x: yaml: line 2: did not find expected <document start>",
		"kind: A\nkind: B\nmetadata: *a\n": "x: yaml: unknown anchor",
	} {
		docs, err := Parse(Source{"x", []byte(in)})
		for _, d := range docs {
			if err == nil {
				_, err = d.Objects()
			}
		}
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", in, err, want)
		}
	}
}

// What comes in goes out again, and an edit leaves values alone that it is not about.
func FuzzDocuments(f *testing.F) {
	f.Add([]byte(deployment))
	f.Add([]byte("kind: A\n---\nkind: List\nitems: [{kind: B, spec: {template: {}}}]\n"))
	f.Add([]byte("kind: D\r\nspec:\r\n  template:\r\n    metadata: &a\r\n      annotations: {x: y}\r\n"))
	f.Add([]byte("? kind\n: D\nspec:\n  template:\n    metadata:\n      annotations:\n        ? a\n        : b\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		docs, err := Parse(Source{"fuzz", in})
		if err != nil {
			return
		}
		var out []byte
		for _, d := range docs {
			b, err := d.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, b...)
		}
		if !bytes.Equal(in, out) {
			t.Fatalf("unchanged documents changed: %q became %q", in, out)
		}
		for _, d := range docs {
			objects, err := d.Objects()
			if err != nil {
				continue
			}
			for _, o := range objects {
				annotate(o)
			}
			if len(objects) == 0 || bytes.ContainsAny(d.raw, "*&!?%") {
				continue // anchors may be shared, tags and complex keys are written in other words
			}
			b, err := d.Bytes()
			if err != nil {
				continue
			}
			again, err := Parse(Source{"again", b})
			if err != nil || len(again) != 1 {
				t.Fatalf("%q became %q, which is no document: %v", d.raw, b, err)
			}
			objects, err = again[0].Objects()
			if err != nil {
				t.Fatalf("%q became %q: %v", d.raw, b, err)
			}
			for _, o := range objects {
				if o.at([]string{"spec", "template", "metadata", "annotations", "a/c"}) == nil {
					t.Fatalf("%q became %q, without the annotation", d.raw, b)
				}
			}
		}
	})
}
