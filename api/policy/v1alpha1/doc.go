// Package v1alpha1 holds the first version of the group policy.tulle.dev. Nothing in it may be
// renamed; a field that is added is optional.
//
// +kubebuilder:object:generate=true
// +groupName=policy.tulle.dev
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Group and Version name this API.
const (
	Group   = "policy.tulle.dev"
	Version = "v1alpha1"
)

// GroupVersion returns the name of this API as the machinery wants it.
func GroupVersion() schema.GroupVersion { return schema.GroupVersion{Group: Group, Version: Version} }

// AddToScheme registers the kinds of this API.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion(), &ExternalWorkload{}, &ExternalWorkloadList{})
	metav1.AddToGroupVersion(s, GroupVersion())
	return nil
}
