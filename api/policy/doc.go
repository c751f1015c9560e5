// Package policy is the root of Tulle's own Kubernetes API, the group policy.tulle.dev: the Go
// types of a version stand beside their generated deepcopy code (v1alpha1), the generated
// CustomResourceDefinitions in crd.
package policy
