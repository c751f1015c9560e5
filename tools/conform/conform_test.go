package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// description is an API of one kind, as a version's source has it.
const description = `{"definitions": {
  "v1.Meta": {"type": "object", "properties": {"name": {"type": "string"}}},
  "v1.Spec": {"type": "object", "required": ["image"], "properties": {
    "image": {"type": "string"}, "memory": {"$ref": "#/definitions/io.k8s.apimachinery.pkg.api.resource.Quantity"},
    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
    "inner": {"$ref": "#/definitions/v1.Spec"}, "list": {"type": "array", "items": {"$ref": "#/definitions/v1.Meta"}}}},
  "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": "string"},
  "v1.Box": {"type": "object", "properties": {
      "apiVersion": {"type": "string"}, "kind": {"type": "string"},
      "metadata": {"$ref": "#/definitions/v1.Meta"}, "spec": {"$ref": "#/definitions/v1.Spec"}},
    "x-kubernetes-group-version-kind": [{"group": "boxes.k8s.io", "kind": "Box", "version": "v1"}]}
}}`

const custom = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
spec:
  group: own.example.org
  names: {kind: Own}
  versions:
  - name: v1
    schema:
      openAPIV3Schema:
        type: object
        properties:
          apiVersion: {type: string}
          kind: {type: string}
          metadata: {type: object}
          size: {type: integer}
`

func TestWhatAVersionDoesNotKnowIsNamed(t *testing.T) {
	box := func(spec string) string {
		return "apiVersion: boxes.k8s.io/v1\nkind: Box\nmetadata: {name: b}\nspec: " + spec + "\n"
	}
	own := func(rest string) string { return "apiVersion: own.example.org/v1\nkind: Own\n" + rest + "\n" }
	for name, c := range map[string]struct{ manifest, wants string }{
		"good":                        {box("{image: x, memory: 1, labels: {any: x}, inner: {image: w, memory: 1Gi}, list: [{name: z}]}"), ""},
		"a field that is unknown":     {box("{image: x, inner: {image: w, colour: blue}}"), "at '/spec/inner': additional properties 'colour' not allowed"},
		"in a list":                   {box("{image: x, list: [{nam: z}]}"), "additional properties 'nam' not allowed"},
		"a wrong type":                {box("{image: 1}"), "at '/spec/image': got number, want string"},
		"a field that is missing":     {box("{}"), "missing property 'image'"},
		"a key twice":                 {box("{image: x, image: x}"), `key "image" already set`},
		"an unknown kind":             {"apiVersion: v1\nkind: Nothing\nmetadata: {name: n}\n", "could not find schema for Nothing"},
		"an own kind":                 {own("metadata: {name: o, labels: {a: b}}\nsize: 1"), ""},
		"an own kind's unknown field": {own("colour: blue"), "additional properties 'colour' not allowed"},
		"nothing to judge":            {"# a remark\n", "the files hold no object"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write := func(name, text string) string {
				path := filepath.Join(dir, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				return path
			}
			api := strings.Replace(description, `"v1.Box"`, `"apiextensions.v1.CustomResourceDefinition": {"type": "object",
				"x-kubernetes-group-version-kind": [{"group": "apiextensions.k8s.io", "kind": "CustomResourceDefinition", "version": "v1"}]}, "v1.Box"`, 1)
			write("api/openapi-spec/swagger.json", api)
			files := []string{write("manifest.yaml", c.manifest)}
			if strings.Contains(c.manifest, "kind: Own") {
				files = append(files, write("custom.yaml", custom))
			}
			n, err := against(dir, files)
			switch {
			case c.wants == "" && (err != nil || n == 0):
				t.Errorf("%d objects are valid, %v", n, err)
			case c.wants != "" && (err == nil || !strings.Contains(err.Error(), c.wants)):
				t.Errorf("got %v, want %q", err, c.wants)
			}
		})
	}
}
