package convert

import (
	"strings"

	"github.com/tulle-mesh/tulle/internal/mesh"
)

// protocols are the values of appProtocol that Tulle knows (rule R2.4): those of Kubernetes
// (KEP-3726), and the service names of IANA for protocols that are nothing but bytes to a mesh.
var protocols = map[string]mesh.Protocol{
	"http":               mesh.ProtocolHTTP,
	"http2":              mesh.ProtocolHTTP2,
	"kubernetes.io/h2c":  mesh.ProtocolHTTP2,
	"h2c":                mesh.ProtocolHTTP2,
	"grpc":               mesh.ProtocolGRPC,
	"kubernetes.io/ws":   mesh.ProtocolHTTP1,
	"ws":                 mesh.ProtocolHTTP1,
	"https":              mesh.ProtocolTLS,
	"kubernetes.io/wss":  mesh.ProtocolTLS,
	"wss":                mesh.ProtocolTLS,
	"tls":                mesh.ProtocolTLS,
	"tcp":                mesh.ProtocolOpaque,
	"smtp":               mesh.ProtocolOpaque,
	"submission":         mesh.ProtocolOpaque,
	"mysql":              mesh.ProtocolOpaque,
	"postgres":           mesh.ProtocolOpaque,
	"postgresql":         mesh.ProtocolOpaque,
	"redis":              mesh.ProtocolOpaque,
	"memcache":           mesh.ProtocolOpaque,
	"memcached":          mesh.ProtocolOpaque,
	"mongo":              mesh.ProtocolOpaque,
	"mongodb":            mesh.ProtocolOpaque,
	"amqp":               mesh.ProtocolOpaque,
	"kafka":              mesh.ProtocolOpaque,
	"nats":               mesh.ProtocolOpaque,
	"galera":             mesh.ProtocolOpaque,
	"elasticsearch-node": mesh.ProtocolOpaque,
}

// IsKnownProtocol reports whether Tulle knows an appProtocol, for those who warn of the others.
func IsKnownProtocol(name string) bool {
	_, ok := protocols[strings.ToLower(name)]
	return ok
}

// protocol reads an appProtocol; one that is not known is detected, and said to be.
func (p *problems) protocol(field string, name *string) mesh.Protocol {
	if name == nil || *name == "" {
		return mesh.ProtocolDetect
	}
	known, ok := protocols[strings.ToLower(*name)]
	if !ok {
		p.noticef(field, "%q is not a protocol that Tulle knows: the port's protocol is detected", *name)
	}
	return known
}

// portProtocol is what a port speaks by its appProtocol, else by its name where that says that it is
// bytes ("mysql", "tcp-redis"). A name that says HTTP says nothing that is not detected, and may be
// wrong.
func (p *problems) portProtocol(field, name string, app *string) mesh.Protocol {
	if app != nil && *app != "" {
		return p.protocol(field+".appProtocol", app)
	}
	first, _, _ := strings.Cut(strings.ToLower(name), "-")
	if protocols[first] == mesh.ProtocolOpaque {
		return mesh.ProtocolOpaque
	}
	return mesh.ProtocolDetect
}
