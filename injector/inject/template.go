package inject

import (
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tulle-mesh/tulle/injector/mark"
)

// Template is the part of an object that pods are made of, in place: a change through it changes the object.
type Template struct {
	Meta *metav1.ObjectMeta
	Spec *corev1.PodSpec
}

// Find returns the template in a Pod, Deployment, StatefulSet, DaemonSet, ReplicaSet,
// ReplicationController, Job, CronJob or PodTemplate; false for everything else.
func Find(object any) (Template, bool) {
	of := func(t *corev1.PodTemplateSpec) (Template, bool) { return Template{&t.ObjectMeta, &t.Spec}, true }
	switch o := object.(type) {
	case *corev1.Pod:
		return Template{&o.ObjectMeta, &o.Spec}, true
	case *corev1.PodTemplateSpec:
		return of(o)
	case *corev1.PodTemplate:
		return of(&o.Template)
	case *corev1.ReplicationController:
		if o.Spec.Template == nil {
			return Template{}, false
		}
		return of(o.Spec.Template)
	case *appsv1.Deployment:
		return of(&o.Spec.Template)
	case *appsv1.StatefulSet:
		return of(&o.Spec.Template)
	case *appsv1.DaemonSet:
		return of(&o.Spec.Template)
	case *appsv1.ReplicaSet:
		return of(&o.Spec.Template)
	case *batchv1.Job:
		return of(&o.Spec.Template)
	case *batchv1.CronJob:
		return of(&o.Spec.JobTemplate.Spec.Template)
	}
	return Template{}, false
}

// Path is where the template is in an object of a kind: {"spec", "template"}, nothing for a Pod; false for
// kinds that make no pods.
func Path(kind string) ([]string, bool) {
	switch kind {
	case "Pod":
		return []string{}, true
	case "PodTemplate":
		return []string{"template"}, true
	case "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job":
		return []string{"spec", "template"}, true
	case "CronJob":
		return []string{"spec", "jobTemplate", "spec", "template"}, true
	}
	return nil, false
}

// Get copies the template out of the object.
func (t Template) Get() corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{ObjectMeta: *t.Meta.DeepCopy(), Spec: *t.Spec.DeepCopy()}
}

// Set puts a template into the object.
func (t Template) Set(s corev1.PodTemplateSpec) {
	*t.Meta, *t.Spec = s.ObjectMeta, s.Spec
}

// Owner is what a pod belongs to, as metrics call it.
func Owner(m *metav1.ObjectMeta) string { return mark.Owner(m) }
