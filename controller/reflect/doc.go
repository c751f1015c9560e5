// Package reflect feeds controller/state from the API server of a cluster: Namespaces, Services,
// EndpointSlices, Pods, Nodes (for their zones), and HTTPRoutes and ExternalWorkloads where the cluster
// has them.
//
// Each kind is one reflector of client-go, which streams its first list (WatchList, KEP-3157) and then
// watches. What arrives becomes a row of controller/state at once (controller/convert) and is let go: no
// object is kept, only its resource version. Rows that changed wait in a set, which is as large as the
// cluster at most however fast changes come, and a moment later all of them become one transaction.
//
// Nothing is served before every kind has been read once and applied. A kind whose definition the
// cluster does not have counts as read, is told once, and is picked up when it appears. While the API
// server is away the last state holds; what cannot be read, and why, is in the reports.
//
// A watch that silently lost an event would leave an endpoint stale for ever. So what is held is
// compared with a fresh list now and then, and when proxies report failures at once for the namespaces
// concerned; a kind that stays behind is read anew, and counted.
package reflect
