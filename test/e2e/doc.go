// Package e2e proves Tulle on a real Kubernetes: test/cluster's two nodes, the images that make images
// builds, the command line that users have. All tests of a run share one cluster, which TestMain brings
// up; each has a namespace of its own (setup). Where there can be no cluster, nothing is tested and the
// reason is printed.
//
// A cluster that make cluster left up is used as it is, and stays: then a test begins within seconds.
// Tests that take minutes begin with long(t) and run with -long only (make e2e-long).
package e2e
