package proxy_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/meshtest"
	"github.com/tulle-mesh/tulle/proxy/loop/simnet"
	"github.com/tulle-mesh/tulle/proxy/metrics"
)

const (
	askUpgrade = "GET /chat HTTP/1.1\nHost: a\nUpgrade: chat\nConnection: Upgrade\n\n"
	switched   = "HTTP/1.1 101 Switching\nUpgrade: chat\nConnection: Upgrade\n\n"
	askConnect = "CONNECT a:443 HTTP/1.1\nHost: a:443\n\n"
	opened     = "HTTP/1.1 200 Opened\n\n"
)

// upgraded is a request as the application sees it: Connection comes last.
func (w *world) upgraded() string {
	s := "GET /chat HTTP/1.1\nHost: a\nUpgrade: chat\nConnection: Upgrade\n\n"
	if w.in != nil && w.out != nil {
		s = "GET /chat HTTP/1.1\nHost: a\nUpgrade: chat\ntulle-client-id: " + string(webID) + "\nConnection: Upgrade\n\n"
	}
	return s
}

// R3.3: bytes that came early are part of the tunnel; each half ends by itself.
func TestTunnelHalves(t *testing.T) {
	shapes(t, nil, func(t *testing.T, w *world) {
		for _, kind := range []struct{ ask, asked, answer string }{
			{askUpgrade, w.upgraded(), switched}, {askConnect, w.request(askConnect), opened},
		} {
			c := w.dial()
			c.send(kind.ask + "early")
			s := w.accept()
			s.expect(kind.asked)
			s.nothing(time.Millisecond) // not before the server has agreed
			s.send(kind.answer + "server's")
			c.expect(kind.answer + "server's")
			s.expect("early")
			c.e.CloseWrite()
			s.expectEOF()
			s.send("still")
			c.expect("still")
			s.e.Close(false)
			c.expectEOF()
		}
	})
}

// R3.6, R5.4: a reset stays a reset, also after the other half has ended.
func TestTunnelReset(t *testing.T) {
	shapes(t, nil, func(t *testing.T, w *world) {
		open := func() (c, s *conn) {
			c = w.dial()
			c.send(askUpgrade)
			s = w.accept()
			s.expect(w.upgraded())
			s.send(switched)
			c.expect(switched)
			return c, s
		}
		c, s := open()
		s.e.Close(true)
		c.expectReset()
		c, s = open()
		c.e.Close(true)
		s.expectReset()

		c, s = open()
		s.e.CloseWrite()
		c.expectEOF()
		s.e.Close(true)
		w.run(10 * time.Millisecond)
		if c.err == nil {
			t.Error("the client does not hear of the server's reset")
		}
		c, s = open()
		c.e.CloseWrite()
		s.expectEOF()
		c.e.Close(true)
		w.run(10 * time.Millisecond)
		if s.err == nil {
			t.Error("the server does not hear of the client's reset")
		}
	})
}

// R3.3: a server that does not switch answers an ordinary request, and the
// connection goes on.
func TestRefusedTunnel(t *testing.T) {
	shapes(t, nil, func(t *testing.T, w *world) {
		c := w.dial()
		c.send(askUpgrade)
		s := w.accept()
		s.expect(w.upgraded())
		s.send(ok)
		c.expect(ok)
		c.send(askConnect)
		s.expect(w.request(askConnect))
		s.send("HTTP/1.1 403 No\nContent-Length: 2\n\nno")
		c.expect("HTTP/1.1 403 No\nContent-Length: 2\n\nno")
		c.send(get)
		s.expect(w.request(get))
		s.send(ok)
		c.expect(ok)
	})
}

// R7.1, R5.4: a tunnel whose peer could not connect its application is tried
// again, and what the next peer says counts.
func TestRefusedOpaqueTunnelIsTriedAgain(t *testing.T) {
	w := newWorld(t, shapeMesh, func(k *knobs) { k.policy.Protocol = mesh.ProtocolOpaque })
	refused := 0
	w.net.OnDial(func(_ netip.Addr, to netip.AddrPort) simnet.Outcome {
		if to == appAddr && refused < 2 {
			refused++
			return simnet.Refused
		}
		return simnet.Normal
	})
	c := w.dial()
	c.send("\x00hello")
	s := w.accept()
	s.expect("\x00hello")
	s.send("world")
	c.expect("world")
}

// R3.2: h2c is not offered to the server.
func TestUpgradeToHTTP2IsNotOffered(t *testing.T) {
	w := newWorld(t, shapeMesh, nil)
	c := w.dial()
	c.send("GET / HTTP/1.1\nHost: a\nConnection: Upgrade, HTTP2-Settings, X-Hop\nUpgrade: h2c\nHTTP2-Settings: AAMAAABk\nX-Hop: 1\nKeep-Alive: 5\nTE: trailers, deflate\n\n")
	s := w.accept()
	s.expect(w.request("GET / HTTP/1.1\nHost: a\nTE: trailers\n\n"))
	s.send("HTTP/1.1 200 OK\nConnection: X-Own\nX-Own: 1\nProxy-Connection: keep-alive\nContent-Length: 0\n\n")
	c.expect("HTTP/1.1 200 OK\nContent-Length: 0\n\n")
}

// R5.4, R9.2: bytes that are no HTTP go through as they are, half-close kept.
func TestOpaqueHalves(t *testing.T) {
	shapes(t, nil, func(t *testing.T, w *world) {
		c := w.dial()
		c.send("\x00\x01hello")
		s := w.accept()
		s.expect("\x00\x01hello")
		c.e.CloseWrite()
		s.expectEOF()
		s.send("bye")
		c.expect("bye")
		s.e.Close(false)
		c.expectEOF()

		c = w.dial()
		c.send("\x00\x01hello")
		s = w.accept()
		s.expect("\x00\x01hello")
		s.e.Close(true)
		c.expectReset()
	})
}

// R2.5: where the server side showed itself to be HTTP, and the client sends
// something else, the client's bytes still reach the server.
func TestForeignBytesAfterAServerThatSpokeHTTP(t *testing.T) {
	shapes(t, nil, func(t *testing.T, w *world) {
		c := w.dial()
		s := w.accept() // the client is silent
		s.send("HTTP/1.1 408 Slow\nContent-Length: 0\n\n")
		if s.expectEOF(); c.unread() != "" {
			t.Fatalf("%q", c.unread())
		}
		c.nothing(time.Minute) // a connection that was opened in advance
		c.send("\x00\x01hello")
		s = w.accept()
		s.expect("\x00\x01hello")
		s.send("bye")
		c.expect("bye")
	})
}

// R2.5: a silent client whose server speaks first gets its bytes at once.
func TestServerFirst(t *testing.T) {
	shapes(t, nil, func(t *testing.T, w *world) {
		c := w.dial()
		s := w.accept()
		s.send("220 hello\n")
		c.expect("220 hello\n")
		c.send("QUIT\n")
		s.expect("QUIT\n")
	})
}

// R2.2: a client may dribble; what has begun is decided, or ends after 10 s.
func TestDribble(t *testing.T) {
	w := newWorld(t, shapeIn, nil)
	c := w.dial()
	for _, b := range crlf(get) {
		c.e.Write([]byte(string(b)))
		w.run(100 * time.Millisecond)
	}
	s := w.accept()
	s.expect(get)
	s.send(ok)
	c.expect(ok)
	c = w.dial()
	c.send("GE")
	c.nothing(9 * time.Second)
	w.run(2 * time.Second)
	c.expectReset()
	if n := w.in.Counted().Timeouts[metrics.TimeoutDetect]; n != 1 {
		t.Errorf("%d timeouts are counted", n)
	}
}

// R2.1, R2.4: a port that is declared opaque is not looked into.
func TestDeclaredOpaque(t *testing.T) {
	w := newWorld(t, shapeOut, func(k *knobs) { k.policy.Protocol = mesh.ProtocolOpaque })
	c := w.dial()
	c.send("GET /x HTTP/1.1\nHost: a\nHost: b\n\n")
	s := w.accept()
	s.expect("GET /x HTTP/1.1\nHost: a\nHost: b\n\n")
}

// R1.3, R1.2: the application is dialled where the client wanted to go, and a
// connection that was not redirected is refused.
func TestOriginalDestination(t *testing.T) {
	w := newWorld(t, shapeIn, func(k *knobs) { k.cfg.Inbound = meshtest.Addr("0.0.0.0:4143") })
	w.servers.RedirectIn(4143, 10080)
	w.dialAt(meshtest.Addr("10.0.0.2:4143")).expectReset()
	c := w.dialAt(appAddr)
	c.send(get)
	s := w.accept()
	if got := s.e.Local(); got != appAddr {
		t.Errorf("the application was dialled at %s", got)
	}
	s.expect(get)
	s.send(ok)
	c.expect(ok)
}

// R7.4: the time that a request may take ends with its answer; a tunnel that
// began with it lives on.
func TestRequestTimeoutIsNotATunnels(t *testing.T) {
	w := newWorld(t, shapeOut, func(k *knobs) { k.policy.Timeouts.Request = 2 * time.Second })
	c := w.dial()
	c.send(askUpgrade)
	s := w.accept()
	s.expect(w.upgraded())
	s.send(switched)
	c.expect(switched)
	c.nothing(5 * time.Second)
	c.send("on")
	s.expect("on")
}

// R9.4: a policy that changes while the application is being connected to holds for
// the tunnel that comes of it.
func TestATunnelThatIsDeniedWhileItConnectsIsEnded(t *testing.T) {
	for _, s := range []shape{shapeIn, shapeMesh} {
		w := newWorld(t, s, func(k *knobs) { k.net.LocalDelay = 50 * time.Millisecond })
		c := w.dial()
		c.send("\x00\x01 no protocol")
		w.run(70 * time.Millisecond)
		if s == shapeMesh { // the client's own proxy is local to it
			w.run(50 * time.Millisecond)
		}
		w.inD.SetInbound(&mesh.InboundPolicy{TrustDomain: "cluster.local", Default: mesh.DefaultDeny})
		c.expectReset()
	}
}

// R9.4: a policy change ends tunnels inside HTTP too, and those whose answer is on
// its way; a request in flight was allowed when it came.
func TestADeniedTunnelInsideHTTPIsEnded(t *testing.T) {
	deny := &mesh.InboundPolicy{TrustDomain: "cluster.local", Default: mesh.DefaultDeny}
	for _, shape := range []shape{shapeIn, shapeMesh} {
		for _, early := range []bool{false, true} {
			w := newWorld(t, shape, nil)
			c := w.dial()
			c.send(askUpgrade)
			s := w.accept()
			s.expect(w.upgraded())
			other := w.dial()
			other.send(get)
			o := w.accept()
			o.expect(w.request(get))
			if early {
				w.inD.SetInbound(deny)
				w.run(10 * time.Millisecond)
			}
			s.send(switched)
			if !early {
				c.expect(switched)
				c.send("hello")
				s.expect("hello")
				w.inD.SetInbound(deny)
			}
			s.expectReset()
			o.send(ok)
			other.expect(ok)
		}
	}
}
