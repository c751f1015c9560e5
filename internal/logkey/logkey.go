// Package logkey holds the keys of structured log fields, so that one thing has one name in the
// logs of every part. Messages are constant; what varies is in fields under these keys.
package logkey

// Keys for the parts of the mesh.
const (
	Component = "component" // the part of a process that logs
	Proxy     = "proxy"     // a proxy, by its identity and instance
	Worker    = "worker"    // a worker's number within its proxy
	Version   = "version"   // the version of a program
	Replica   = "replica"   // one of several instances of a control plane service
)

// Keys for connections and requests. Bytes that a client chose are escaped by the encoder (R12.6).
const (
	Direction = "direction" // "inbound" or "outbound"
	Client    = "client"    // the remote end of an accepted connection
	Local     = "local"     // the local end
	Target    = "target"    // what an application dialled
	Endpoint  = "endpoint"  // what was chosen for it
	Protocol  = "protocol"
	SNI       = "sni"
	Method    = "method"
	Path      = "path"
	Status    = "status"
	RequestID = "request_id"
)

// Keys for identity, policy and discovery.
const (
	Identity  = "identity" // a SPIFFE ID
	Peer      = "peer"     // the SPIFFE ID of the other end
	NotAfter  = "not_after"
	Policy    = "policy"
	Namespace = "namespace"
	Service   = "service"
	Name      = "name" // the name of an object; Kind says of what kind
	Kind      = "kind"
	Revision  = "revision" // the version of a table or message
)

// Keys for everything else.
const (
	Addr      = "addr"
	Port      = "port"
	File      = "file"
	Line      = "line"
	Duration  = "duration"
	Count     = "count"
	Reason    = "reason"
	Connected = "connected"
	Signal    = "signal"
	Error     = "error" // zap.Error's own key
)
