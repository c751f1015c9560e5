package charts

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	yamlv3 "go.yaml.in/yaml/v3"
	"sigs.k8s.io/yaml"

	"github.com/tulle-mesh/tulle/injector/config"
)

var update = flag.Bool("update", false, "write the golden files, and what is generated in the charts")

// proxyHead begins what is generated in values.yaml, to its end.
const proxyHead = `# What holds for every proxy where neither pod nor namespace says otherwise with an annotation. docs/injection.md has a row
# for each: proxy.cpuRequest is the annotation config.tulle.dev/cpu-request.
# (Generated from injector/config: go test ./charts -update.)
proxy:
`

// inherited are settings that are empty in the chart, because they follow other values.
func inherited(s *config.Setting) (sentence string, ok bool) {
	switch s.Name {
	case config.ProxyImage:
		return " Empty: tulle-proxy of image.registry.", true
	case config.ProxyVersion:
		return " Empty: the chart's version.", true
	}
	return "", false
}

// TestValuesOfProxiesAreTheTableOfInjection: one table for code, docs and chart.
func TestValuesOfProxiesAreTheTableOfInjection(t *testing.T) {
	var want strings.Builder
	want.WriteString(proxyHead)
	for i, s := range config.Table() {
		sentence, empty := inherited(&s)
		value := s.Default
		if empty {
			value = ""
		}
		if strings.HasPrefix(s.Wants(), "some of ") && value == "" {
			value = "{}"
		} else if _, err := strconv.Atoi(value); err != nil && (value == "" || value == "off" || strings.Contains(value, ",")) {
			value = strconv.Quote(value)
		}
		if i > 0 {
			want.WriteString("\n")
		}
		doc := fmt.Sprintf("%s%s %s", strings.ReplaceAll(s.Doc, "`", ""), sentence, wants(&s))
		want.WriteString(wrapped(doc, 115))
		fmt.Fprintf(&want, "  %s: %s\n", strings.TrimPrefix(s.Value(), "proxy."), value)
	}
	const name = "tulle/values.yaml"
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	own, got, found := strings.Cut(string(text), "\n"+proxyHead[:40])
	if !found {
		t.Fatalf("%s has no section %q", name, proxyHead)
	}
	if got = proxyHead[:40] + got; got != want.String() {
		if !*update {
			t.Fatalf("%s differs from the table of injector/config: go test ./charts -update", name)
		}
		write(t, name, []byte(own+"\n"+want.String()))
	}
}

// wants says what a value must be; of those with keys, the keys.
func wants(s *config.Setting) string {
	keys, keyed := strings.CutPrefix(s.Wants(), "some of ")
	if !keyed {
		return "Want " + s.Wants() + "."
	}
	var names []string
	for part := range strings.SplitSeq(keys, "; ") {
		name, _, _ := strings.Cut(part, "=")
		names = append(names, name)
	}
	return "Keys here: " + strings.Join(names, ", ") + "."
}

// wrapped is text as lines of comments, indented by two.
func wrapped(text string, width int) string {
	var out, line strings.Builder
	for word := range strings.FieldsSeq(text) {
		if line.Len() > 0 && line.Len()+1+len(word) > width {
			fmt.Fprintf(&out, "  #%s\n", line.String())
			line.Reset()
		}
		line.WriteString(" " + word)
	}
	fmt.Fprintf(&out, "  #%s\n", line.String())
	return out.String()
}

// TestDefaultsAreTheValues: templates cannot read values.yaml as a file, so defaults.yaml repeats it.
func TestDefaultsAreTheValues(t *testing.T) {
	values, err := os.ReadFile("tulle/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := ParseValues(values)
	if err != nil {
		t.Fatal(err)
	}
	want, err := yaml.Marshal(parsed)
	if err != nil {
		t.Fatal(err)
	}
	want = append([]byte("# values.yaml without its comments: go test ./charts -update.\n"), want...)
	golden(t, "tulle/defaults.yaml", want)
}

// TestEveryValueIsDocumentedInTheSchemaAndUsed walks values.yaml: a comment above every value, a
// property in the schema, a template that reads it; and the schema knows nothing else.
func TestEveryValueIsDocumentedInTheSchemaAndUsed(t *testing.T) {
	for _, chart := range []string{Tulle, CRDs} {
		t.Run(chart, func(t *testing.T) {
			text, err := os.ReadFile(chart + "/values.yaml")
			if err != nil {
				t.Fatal(err)
			}
			var doc yamlv3.Node
			if err := yamlv3.Unmarshal(text, &doc); err != nil {
				t.Fatal(err)
			}
			var s schema
			raw, err := os.ReadFile(chart + "/values.schema.json")
			if err != nil {
				t.Fatal(err)
			}
			d := json.NewDecoder(bytes.NewReader(raw))
			if err := d.Decode(&s); err != nil {
				t.Fatal(err)
			}
			templates := templates(t, chart)
			s.compare(t, "", doc.Content[0], "", func(path string) bool { return isUsed(templates, path) })
		})
	}
}

// TestValuesAreInTheDocumentation writes docs/values.md from what stands in the charts.
func TestValuesAreInTheDocumentation(t *testing.T) {
	var out strings.Builder
	out.WriteString("# The charts' values\n\nGenerated from `charts/*/values.yaml`, which say the same: `go test ./charts -update`. " +
		"How they are set: [install.md](install.md).\n")
	for _, chart := range []string{Tulle, CRDs} {
		text, err := os.ReadFile(chart + "/values.yaml")
		if err != nil {
			t.Fatal(err)
		}
		var doc yamlv3.Node
		if err := yamlv3.Unmarshal(text, &doc); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "\n## %s\n\n| value | default | what it is |\n| --- | --- | --- |\n", chart)
		rows(&out, "", doc.Content[0])
	}
	golden(t, "../docs/values.md", []byte(out.String()))
}

// rows writes a row per value that has a comment and is no mere table of others.
func rows(out *strings.Builder, path string, n *yamlv3.Node) {
	for i := 0; i < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		name := strings.TrimPrefix(path+"."+key.Value, ".")
		isTable := value.Kind == yamlv3.MappingNode && len(value.Content) > 0
		if isTable && value.Content[0].HeadComment != "" {
			rows(out, name, value)
			continue
		}
		var def any
		if err := value.Decode(&def); err != nil {
			panic("BUG: " + err.Error())
		}
		text, err := json.Marshal(def)
		if err != nil {
			panic("BUG: " + err.Error())
		}
		doc := strings.Join(strings.Fields(strings.ReplaceAll(key.HeadComment, "#", "")), " ")
		shown := strings.Trim(string(text), `"`)
		if shown != "" {
			shown = "`" + shown + "`"
		}
		fmt.Fprintf(out, "| `%s` | %s | %s |\n", name, shown, strings.ReplaceAll(doc, "|", "\\|"))
	}
}

// schema is as much of a JSON schema as compare needs.
type schema struct {
	Properties           map[string]*schema `json:"properties"`
	AdditionalProperties any                `json:"additionalProperties"`
}

func (s *schema) compare(t *testing.T, path string, n *yamlv3.Node, comment string, used func(string) bool) {
	t.Helper()
	if n.Kind != yamlv3.MappingNode || len(n.Content) == 0 || s.Properties == nil {
		if comment == "" {
			t.Errorf("values.yaml: %s has no comment", path)
		}
		if !used(path) {
			t.Errorf("values.yaml: %s is read by no template", path)
		}
		return
	}
	if s.AdditionalProperties != false {
		t.Errorf("schema: %s takes what it does not know", cmp.Or(path, "the root"))
	}
	var names []string
	for i := 0; i < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		name := strings.TrimPrefix(path+"."+key.Value, ".")
		names = append(names, key.Value)
		below, ok := s.Properties[key.Value]
		if !ok {
			t.Errorf("schema: %s is missing", name)
			continue
		}
		below.compare(t, name, value, key.HeadComment, used)
	}
	for name := range s.Properties {
		if !slices.Contains(names, name) {
			t.Errorf("values.yaml: %s.%s of the schema is missing", path, name)
		}
	}
}

// isUsed finds .Values.PATH, or a part of the way that is passed on whole.
func isUsed(templates, path string) bool {
	first, rest, deep := strings.Cut(path, ".")
	switch first {
	case "controlPlane":
		return strings.Contains(templates, "$cp."+rest) || strings.Contains(templates, "Values."+path) || deep && isWhole(templates, "$cp.", rest)
	case "proxy": // goes to the injector as a whole, in ConfigMap tulle-config
		return strings.Contains(templates, `include "tulle.resolved"`)
	}
	return strings.Contains(templates, "Values."+path) || strings.Contains(templates, "values."+path) || deep && isWhole(templates, "Values.", path)
}

// isWhole: the table that path is in is written out by toYaml, or passed on.
func isWhole(templates, prefix, path string) bool {
	for i := strings.LastIndexByte(path, '.'); i > 0; i = strings.LastIndexByte(path, '.') {
		path = path[:i]
		for _, end := range []string{" }}", " |", ")"} {
			if strings.Contains(templates, prefix+path+end) {
				return true
			}
		}
	}
	return false
}

// templates is the text of all templates of a chart.
func templates(t *testing.T, chart string) string {
	t.Helper()
	c, err := load(chart)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, f := range c.Templates {
		all.Write(f.Data)
	}
	return all.String()
}

// golden compares a file with what it should hold, or writes it.
func golden(t *testing.T, name string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(name)
	if bytes.Equal(got, want) {
		return
	}
	if *update {
		write(t, name, want)
		return
	}
	t.Errorf("%s is not current (%v): go test ./charts -update, and look at the difference", name, err)
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}
