// Package demo is a whole mesh on one machine: no root, no cluster, nothing but loopback. It runs
// the control plane in this process from a directory of YAML that it writes, the sample shop as one
// process per instance with a tulle-proxy process beside each, and the shop's traffic; and shows a
// table of what the proxies' /metrics say.
//
// cmd/tulle-demo and `tulle demo` call Run. Whatever Run started has ended when it returns. Every
// number of the table comes from /metrics alone, never from what the demo knows otherwise.
package demo
