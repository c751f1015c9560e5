package proxy

import (
	"net/netip"

	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/detect"
	"github.com/tulle-mesh/tulle/proxy/wire"
)

// sources remember what addresses on the network speak, so that a silent client from outside of the mesh
// does not wait for a ClientHello that will not come (R2.5): a workload in the mesh dials with mesh TLS, one
// outside never does. An address that did both of late, a NAT's, may be a peer's each time.
//
// Two generations bound them: when the younger one is full, the older one is forgotten.
type sources struct {
	young, old map[netip.Addr]source
}

// source is when an address last did each; 0 is never.
type source struct {
	peer, plain mono.Time
}

// maxSources is how many addresses a generation holds.
const maxSources = 1024

func (o *sources) get(a netip.Addr) source {
	if s, ok := o.young[a]; ok {
		return s
	}
	return o.old[a]
}

func (o *sources) put(a netip.Addr, s source) {
	if o.young == nil {
		o.young = map[netip.Addr]source{}
	}
	if _, known := o.young[a]; !known && len(o.young) >= maxSources {
		o.young, o.old = map[netip.Addr]source{}, o.young
	}
	o.young[a] = s
}

// sawPeer notes a handshake with a peer.
func (s *shard) sawPeer(c *wire.Conn) {
	s.peerAt = s.now()
	a := c.Info.Remote.Addr().Unmap()
	known := s.sources.get(a)
	known.peer = s.now()
	s.sources.put(a, known)
}

// sawPlain notes what a connection from the network turned out to be, unless that tells nothing of its
// client: a server's HTTP does not, while the client is silent.
func (s *shard) sawPlain(c *wire.Conn, v detect.Verdict, serverFirst bool) {
	if v == detect.Mesh || serverFirst && (v == detect.HTTP1 || v == detect.HTTP2) {
		return
	}
	a := c.Info.Remote.Addr().Unmap()
	known := s.sources.get(a)
	known.plain = s.now()
	s.sources.put(a, known)
}

// mayBePeer reports whether a silent client may be a peer whose ClientHello is late.
func (s *shard) mayBePeer(c *wire.Conn) bool {
	now := s.now()
	if now.Sub(s.peerAt) >= knownFor {
		return false
	}
	k := s.sources.get(c.Info.Remote.Addr().Unmap())
	outside := k.plain != 0 && now.Sub(k.plain) < knownFor && (k.peer == 0 || now.Sub(k.peer) >= knownFor)
	return !outside
}
