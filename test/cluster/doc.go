// Package cluster is a real Kubernetes on this machine, for tests: two nodes (or more), up in about ten
// seconds and down without a trace. Its programs are built from Go modules and cached; containerd, runc
// and the CNI plugins are Debian's.
//
// A node is a set of namespaces (mounts, processes, network, hostname) around one process, so that
// killing this process is a power cut: pods, mounts and network end with it. The nodes hang on a bridge
// whose other end is the host: tests reach the API server, pods, Services and node ports directly, and
// see what crosses between nodes.
//
// Up waits for another process that has the same instance, cleans up what a dead one left, and starts.
// When the process that called Up ends, in whatever way, its nodes end with it, unless Config.Detached.
package cluster
