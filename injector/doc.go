// Package injector is the root of what puts a proxy beside a workload on Kubernetes (rules R13.1 to
// R13.4): config, the table of settings; inject, the pure function from a pod to a meshed pod; webhook,
// which answers admission with it; init, which redirects the pod's own network. It has no code of its own.
package injector
