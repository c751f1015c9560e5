// Package pod proves with real programs what a proxy does in a pod's network: network namespaces joined by
// a bridge stand for pods, tulle-init redirects them, a tulle-proxy runs in each as its own user, and a
// tulle-controller with a directory of YAML is the control plane. Clients and servers are net/http and
// plain sockets that know of no proxy. It needs root on Linux, and is skipped with the reason elsewhere.
package pod
