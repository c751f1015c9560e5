package inject

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tulle-mesh/tulle/proxy/admin/probe"
)

// original is what injection replaced, in JSON in AnnotationOriginal. What it added it finds by name.
type original struct {
	// Annotations and Labels hold what was under the keys that injection wrote; nil: nothing.
	Annotations map[string]*string `json:"annotations,omitempty"`
	Labels      map[string]*string `json:"labels,omitempty"`
	// Probes are the handlers that were rewritten, by "container/kind".
	Probes map[string]corev1.ProbeHandler `json:"probes,omitempty"`
	// PreStop are the containers that were given one; true: they had no lifecycle at all.
	PreStop map[string]bool `json:"preStop,omitempty"`
}

func (o *original) annotation(m *metav1.ObjectMeta, key, value string) {
	put(&m.Annotations, &o.Annotations, key, value)
}

func (o *original) label(m *metav1.ObjectMeta, key, value string) {
	put(&m.Labels, &o.Labels, key, value)
}

func put(in *map[string]string, kept *map[string]*string, key, value string) {
	if *in == nil {
		*in = map[string]string{}
	}
	if *kept == nil {
		*kept = map[string]*string{}
	}
	(*kept)[key] = nil
	if old, ok := (*in)[key]; ok {
		(*kept)[key] = &old
	}
	(*in)[key] = value
}

func (o *original) probe(container, kind string, h corev1.ProbeHandler) {
	if o.Probes == nil {
		o.Probes = map[string]corev1.ProbeHandler{}
	}
	o.Probes[container+"/"+kind] = h
}

func (o *original) preStop(container string, bare bool) {
	if o.PreStop == nil {
		o.PreStop = map[string]bool{}
	}
	o.PreStop[container] = bare
}

// write keeps o in the pod. It is the last thing that injection does.
func (o *original) write(m *metav1.ObjectMeta) {
	o.annotation(m, AnnotationOriginal, "")
	b, err := json.Marshal(o)
	if err != nil {
		panic("BUG: what was changed cannot be written: " + err.Error())
	}
	m.Annotations[AnnotationOriginal] = string(b)
}

// Uninject returns pod as it was before Inject. A pod that was not injected comes back as it is.
func Uninject(pod corev1.PodTemplateSpec, object string) (corev1.PodTemplateSpec, Report, error) {
	r := Report{Object: object}
	out, ours, err := restored(*pod.DeepCopy())
	if err != nil {
		return pod, r, fmt.Errorf("%s: %w", object, err)
	}
	r.Changed = ours
	return out, r, nil
}

// restored takes out of pod what Inject put in, and reports whether there was something. pod is changed.
func restored(pod corev1.PodTemplateSpec) (corev1.PodTemplateSpec, bool, error) {
	text, ok := pod.Annotations[AnnotationOriginal]
	if !ok {
		return pod, false, nil
	}
	var o original
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return pod, false, fmt.Errorf("annotation %s, from which the original pod is restored: %w", AnnotationOriginal, err)
	}
	spec := &pod.Spec
	named := func(c corev1.Container) bool { return c.Name == ProxyContainer || c.Name == InitContainer }
	spec.InitContainers = without(spec.InitContainers, named)
	spec.Containers = without(spec.Containers, named)
	spec.Volumes = without(spec.Volumes, func(v corev1.Volume) bool { return slices.Contains(volumeNames, v.Name) })
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			o.restoreContainer(&list[i])
		}
	}
	restoreMap(&pod.Annotations, o.Annotations)
	restoreMap(&pod.Labels, o.Labels)
	return pod, true, nil
}

func (o *original) restoreContainer(c *corev1.Container) {
	for _, p := range []struct {
		kind string
		at   *corev1.Probe
	}{{probe.Liveness, c.LivenessProbe}, {probe.Readiness, c.ReadinessProbe}, {probe.Startup, c.StartupProbe}} {
		h, ok := o.Probes[c.Name+"/"+p.kind]
		// A probe that somebody has changed since is theirs.
		if ok && p.at != nil && p.at.HTTPGet != nil && p.at.HTTPGet.Path == probe.Path(c.Name, p.kind) {
			p.at.ProbeHandler = h
		}
	}
	bare, ok := o.PreStop[c.Name]
	if !ok || c.Lifecycle == nil || c.Lifecycle.PreStop == nil || c.Lifecycle.PreStop.Sleep == nil {
		return
	}
	c.Lifecycle.PreStop = nil
	if bare && reflect.DeepEqual(*c.Lifecycle, corev1.Lifecycle{}) {
		c.Lifecycle = nil
	}
}

func restoreMap(m *map[string]string, kept map[string]*string) {
	for key, old := range kept {
		if old == nil {
			delete(*m, key)
		} else {
			(*m)[key] = *old
		}
	}
	if len(*m) == 0 {
		*m = nil
	}
}

func without[T any](list []T, gone func(T) bool) []T {
	list = slices.DeleteFunc(list, gone)
	if len(list) == 0 {
		return nil
	}
	return list
}

// equal compares two templates as the API server would: nothing and empty are the same.
func equal(a, b *corev1.PodTemplateSpec) bool { return equality.Semantic.DeepEqual(a, b) }

// isLabel reports whether s can be a label's value.
func isLabel(s string) bool {
	if s == "" || len(s) > 63 {
		return false
	}
	edge := func(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' }
	return edge(s[0]) && edge(s[len(s)-1]) && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == ""
}
