package sim

import (
	"crypto/tls"
	"io"
	"net"
	"time"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/meshtest"
)

// Most clients and servers of a seed.
const (
	mostClients = 2
	mostServers = 3
)

// shortLeaf is how long the certificates of seeds with a renewal live: their
// hops are drained while requests are under way.
const shortLeaf = 6 * time.Second

// leaf is one certificate of an identity.
type leaf struct {
	short bool
	cert  tls.Certificate
}

// NewCerts makes an authority and certificates for every host that a seed may have.
func NewCerts() *Certs {
	a := meshtest.NewAuthority(func() time.Time { return epoch })
	c := &Certs{bundle: a.Bundle(), leaves: map[mesh.Identity][]leaf{}}
	add := func(id mesh.Identity) {
		c.leaves[id] = []leaf{
			{false, a.Leaf(id, 100*time.Hour)}, {false, a.Leaf(id, 100*time.Hour)}, {true, a.Leaf(id, shortLeaf)},
		}
	}
	c.hellos = [][]byte{hello("h2", "http/1.1"), hello()}
	for i := range mostClients {
		add(identity("client", i))
	}
	for i := range mostServers {
		add(identity("server", i))
	}
	return c
}

// hello is the first flight of a TLS client of the application's own.
func hello(alpn ...string) []byte {
	var f flight
	_ = tls.Client(&f, &tls.Config{ServerName: "catalog.shop", NextProtos: alpn}).Handshake() // it gets no answer
	return f.sent
}

// flight is a connection that takes what is written and has no answer.
type flight struct {
	net.Conn
	sent []byte
}

func (f *flight) Write(p []byte) (int, error) { f.sent = append(f.sent, p...); return len(p), nil }
func (f *flight) Read([]byte) (int, error)    { return 0, io.EOF }

// leaf returns the n-th certificate of id that is short-lived or not.
func (c *Certs) leaf(id mesh.Identity, short bool, n int) tls.Certificate {
	all := c.leaves[id]
	for _, l := range all {
		if l.short == short {
			if n == 0 {
				return l.cert
			}
			n--
		}
	}
	return all[0].cert
}
