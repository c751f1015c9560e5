package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

// schema is a definition of an API description (Swagger 2.0), or a part of one.
type schema = map[string]any

// prefix begins a reference to another definition.
const prefix = "#/definitions/"

// schemas writes a JSON schema for each kind that an API description defines, by the names that kubeconform looks for
// (deployment-apps-v1.json, pod-v1.json), each with the definitions that it needs.
func schemas(description []byte, dir string) error {
	var api struct {
		Definitions map[string]schema `json:"definitions"`
	}
	if err := json.Unmarshal(description, &api); err != nil {
		return err
	}
	for _, definition := range api.Definitions {
		strict(definition)
	}
	// Both are written as strings; the API server takes numbers too.
	number := schema{"type": []string{"string", "number"}}
	for _, name := range []string{"io.k8s.apimachinery.pkg.api.resource.Quantity", "io.k8s.apimachinery.pkg.util.intstr.IntOrString"} {
		if _, ok := api.Definitions[name]; ok {
			api.Definitions[name] = number
		}
	}
	for name, definition := range api.Definitions {
		kinds, _ := definition["x-kubernetes-group-version-kind"].([]any)
		if len(kinds) != 1 { // those of many are DeleteOptions and their like
			continue
		}
		needs := map[string]schema{}
		collect(api.Definitions, schema{"$ref": prefix + name}, needs)
		kind, _ := kinds[0].(schema)
		text := func(key string) string { s, _ := kind[key].(string); return s }
		err := write(dir, schema{"$ref": prefix + name, "definitions": needs}, text("kind"), text("group"), text("version"))
		if err != nil {
			return err
		}
	}
	return nil
}

// customSchemas writes one for each kind and version of the definitions of custom resources that the files hold.
func customSchemas(files []string, dir string) error {
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for document := range strings.SplitSeq(string(b), "\n---\n") {
			var crd struct {
				Kind string
				Spec struct {
					Group    string
					Names    struct{ Kind string }
					Versions []struct {
						Name   string
						Schema struct{ OpenAPIV3Schema schema }
					}
				}
			}
			if yaml.Unmarshal([]byte(document), &crd) != nil || crd.Kind != "CustomResourceDefinition" {
				continue // what is not YAML is kubeconform's to say
			}
			for _, v := range crd.Spec.Versions {
				part := v.Schema.OpenAPIV3Schema
				strict(part)
				if properties, ok := part["properties"].(schema); ok {
					properties["metadata"] = schema{} // an ObjectMeta, which definitions do not repeat
				}
				if err := write(dir, part, crd.Spec.Names.Kind, crd.Spec.Group, v.Name); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// write keeps a schema under the name by which kubeconform looks for it: of the group the first label.
func write(dir string, s schema, kind, group, version string) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	suffix := version
	if first, _, _ := strings.Cut(group, "."); first != "" {
		suffix = first + "-" + version
	}
	return os.WriteFile(filepath.Join(dir, strings.ToLower(kind+"-"+suffix)+".json"), b, 0o600)
}

// strict allows an object the properties that it names, and no others.
func strict(part schema) {
	if _, ok := part["properties"]; ok && part["additionalProperties"] == nil {
		part["additionalProperties"] = false
	}
	for key, value := range part {
		inner, ok := value.(schema)
		switch {
		case ok && key == "properties": // names, not keywords
			for _, p := range inner {
				if p, ok := p.(schema); ok {
					strict(p)
				}
			}
		case ok:
			strict(inner)
		}
	}
}

// collect adds to needs every definition that part refers to.
func collect(all map[string]schema, part schema, needs map[string]schema) {
	if ref, ok := part["$ref"].(string); ok {
		name := strings.TrimPrefix(ref, prefix)
		if needs[name] == nil {
			needs[name] = all[name]
			collect(all, all[name], needs)
		}
	}
	for _, value := range part {
		if inner, ok := value.(schema); ok {
			collect(all, inner, needs)
		}
	}
}
