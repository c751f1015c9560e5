// Package state is what the control plane knows: immutable tables behind one pointer, changed by one
// writer at a time.
//
// There are two layers. The base holds rows as the sources tell them (Namespace, Service, Workload,
// Slice, Route); controller/convert makes them of Kubernetes objects. From it the writer derives,
// in the same transaction, what proxies are told: a Table of endpoints with its policy for every
// Service port and every workload address, what a Target resolves to, and the inbound policy of each
// workload. Derivation follows the change, not the size of the table: one endpoint among 10,000
// touches one row. Audit derives everything anew from the base and compares, because incremental
// code is wrong one day.
//
// Tables are radix trees (hashicorp/go-immutable-radix): a snapshot shares all but the changed path
// with the one before, readers take no lock, and ordered keys give prefix scans for "all workloads
// of a namespace". A Table also keeps its last changes, so that a reader who stands on a recent
// version gets the difference without comparing trees.
//
// Versions are those of the snapshot that changed a thing; they grow by one with each transaction
// that changes anything, and mean nothing to another process.
package state
