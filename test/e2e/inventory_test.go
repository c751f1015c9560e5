package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// inventory is a set of lines; the same line may be there several times.
type inventory map[string]int

func (i inventory) add(lines ...string) {
	for _, line := range lines {
		i[line]++
	}
}

// diff is what after has and before has not (+), and the other way round (-).
func diff(before, after inventory) []string {
	var out []string
	for _, line := range slices.Sorted(maps.Keys(after)) {
		if n := after[line] - before[line]; n > 0 {
			out = append(out, fmt.Sprintf("+%d %s", n, line))
		}
	}
	for _, line := range slices.Sorted(maps.Keys(before)) {
		if n := before[line] - after[line]; n > 0 {
			out = append(out, fmt.Sprintf("-%d %s", n, line))
		}
	}
	return out
}

// item is any object.
type item map[string]any

func (i item) at(path ...string) any {
	var v any = map[string]any(i)
	for _, p := range path {
		m, _ := v.(map[string]any)
		v = m[p]
	}
	return v
}

func (i item) text(path ...string) string {
	s, _ := i.at(path...).(string)
	return s
}

func (i item) drop(path ...string) {
	if m, ok := i.at(path[:len(path)-1]...).(map[string]any); ok {
		delete(m, path[len(path)-1])
	}
}

// kinds is every resource that can be listed and deleted, in every group that the API server serves.
func (e *env) kinds() []string {
	e.t.Helper()
	all := strings.Fields(e.kubectl("api-resources", "--verbs=list,delete", "--output=name"))
	if len(all) < 50 {
		e.t.Fatalf("the API server serves only %v", all)
	}
	return all
}

// objects is what the API server holds, of every kind, by content. Left out is what Kubernetes changes by itself:
// events, leases and status; and the marks that it, or kubectl, leaves on whatever is changed and changed back.
// Pods and what else is made anew by its owner are known by the owner and the content.
func (e *env) objects() inventory {
	e.t.Helper()
	kinds := e.kinds()
	all := inventory{}
	for _, k := range kinds {
		all.add("kind " + k)
	}
	kinds = slices.DeleteFunc(kinds, func(k string) bool {
		return k == "events" || k == "events.events.k8s.io" || k == "leases.coordination.k8s.io" || k == "componentstatuses"
	})
	var list struct{ Items []item }
	if err := json.Unmarshal([]byte(e.kubectl("get", strings.Join(kinds, ","), "--all-namespaces", "--ignore-not-found", "--output=json")), &list); err != nil {
		e.t.Fatal(err)
	}
	for _, o := range list.Items {
		all.add(describe(e.t, o))
	}
	return all
}

// Names and tokens that are drawn anew each time.
var (
	drawn   = regexp.MustCompile(`kube-api-access-[a-z0-9]{5}`)
	address = regexp.MustCompile(`(\b|_)10\.\d+\.\d+\.\d+\b|\bfd[0-9a-f]{2}(:[0-9a-f]{0,4})+`)
)

func describe(t *testing.T, o item) string {
	t.Helper()
	name := fmt.Sprintf("%s/%s %s/%s", o.text("apiVersion"), o.text("kind"), o.text("metadata", "namespace"), o.text("metadata", "name"))
	if owners, _ := o.at("metadata", "ownerReferences").([]any); len(owners) > 0 {
		owner := item(owners[0].(map[string]any))
		base := owner.text("name")
		if owner.text("kind") == "ReplicaSet" { // NAME-HASH, and the hash is of the template
			base = base[:strings.LastIndexByte(base, '-')]
		}
		name = fmt.Sprintf("%s of %s/%s %s", o.text("kind"), o.text("metadata", "namespace"), owner.text("kind"), base)
	}
	for _, f := range []string{"resourceVersion", "uid", "generation", "creationTimestamp", "managedFields", "ownerReferences", "name", "generateName"} {
		o.drop("metadata", f)
	}
	for _, a := range []string{
		"kubectl.kubernetes.io/last-applied-configuration", "kubectl.kubernetes.io/restartedAt", "deployment.kubernetes.io/revision",
		"endpoints.kubernetes.io/last-change-trigger-time",
		"deprecated.daemonset.template.generation",
	} {
		o.drop("metadata", "annotations", a)
		o.drop("spec", "template", "metadata", "annotations", a)
	}
	for _, path := range [][]string{{"metadata", "annotations"}, {"spec", "template", "metadata", "annotations"}} {
		if m, _ := o.at(path...).(map[string]any); len(m) == 0 {
			o.drop(path...)
		}
	}
	o.drop("status")
	for _, l := range []string{"pod-template-hash", "controller-revision-hash", "pod-template-generation"} {
		o.drop("metadata", "labels", l)
		o.drop("spec", "template", "metadata", "labels", l)
		o.drop("spec", "selector", "matchLabels", l)
	}
	switch o.text("kind") {
	case "EndpointSlice", "Endpoints": // the addresses of pods, which are made anew
		for _, part := range []string{"endpoints", "subsets"} {
			o.drop(part)
		}
	case "ControllerRevision":
		o.drop("revision")
		o.drop("data")
	}
	raw, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return name + " " + address.ReplaceAllString(drawn.ReplaceAllString(string(raw), "kube-api-access-"), "ADDRESS")
}
