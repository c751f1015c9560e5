// Package files feeds controller/state from a directory of Kubernetes YAML: Namespace, Service,
// EndpointSlice, ExternalWorkload and HTTPRoute, in files that end in .yaml, .yml or .json, in
// sub-directories too, several documents per file. It is the source of a mesh without a cluster.
//
// The directory is watched, and read anew every now and then in case the watch missed something.
// All that one look finds becomes one transaction. A file that is broken (unreadable, empty, not
// YAML, an object that cannot be) is reported with its line, and what was last good of it stays in
// force; so write files beside the directory and rename them into it. A file that is gone takes its
// objects along. Where two files hold the same object, the first by path wins, and the other is
// reported.
//
// At the start there is no last good state. The store is marked as synced once every file has been
// good, because a control plane that knows less than it did before must not tell proxies so.
package files
