// Package mesh proves with a whole mesh over loopback what the data plane
// promises: a control plane, proxies and, at both ends, clients and servers
// that are not our own (net/http, grpc-go, coder/websocket, raw sockets).
//
// One harness runs every case twice: with the proxies in the test's process,
// built as cmd/tulle-proxy builds them, and as processes of the real binary.
// Between two proxies stands a recorder; it sees what the network would.
package mesh
