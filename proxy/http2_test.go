package proxy_test

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/proxy/metrics"
)

const h2get = ":method: GET\n:scheme: http\n:authority: a\n:path: /"

// R4.4, R3.5: a connection that nobody uses is closed, by the idle time since
// its last stream ended.
func TestIdleHTTP2ConnectionIsClosed(t *testing.T) {
	w := newWorld(t, shapeIn, nil)
	c := w.dial().http2(true)
	c.head(1, true, h2get)
	s := w.accept().http2(false)
	s.expectFrame("HEADERS 1 END :method: GET; :scheme: http; :path: /; :authority: a;")
	s.head(1, true, ":status: 204")
	c.expectFrame("HEADERS 1 END :status: 204;")
	w.run(89 * time.Second)
	if c.unread() != "" && strings.Contains(c.frame(), "GOAWAY") {
		t.Fatal("too early")
	}
	w.run(2 * time.Second)
	c.expectFrame("GOAWAY 2147483647 NO_ERROR")
	c.expectFrame("GOAWAY 1 NO_ERROR")
	c.expectEOF()
	s.expectFrame("end (eof true, <nil>)")
}

// R4.4: PINGs and their answers are no use of a connection.
func TestIdleHopIsClosedDespitePings(t *testing.T) {
	w := newWorld(t, shapeMesh, nil)
	c := w.dial()
	var s *conn
	ask := func() uint64 {
		before := w.net.Stats().Connects
		c.send(get)
		if s == nil || s.eof {
			s = w.accept()
		}
		s.expect(w.request(get))
		s.send(ok)
		c.expect(ok)
		return w.net.Stats().Connects - before
	}
	ask()
	w.run(50 * time.Second)
	if n := ask(); n != 0 {
		t.Errorf("%d connections for a request within the idle time", n)
	}
	w.run(70 * time.Second)
	if n := ask(); n != 2 {
		t.Errorf("%d connections for a request after it, want one between the proxies and one to the application", n)
	}
}

// RFC 9113, section 8.1: a response that is whole ends a request that nobody
// reads any more.
func TestEarlyResponseEndsAnHTTP2Request(t *testing.T) {
	w := newWorld(t, shapeIn, func(k *knobs) {
		k.inbound = &mesh.InboundPolicy{TrustDomain: "cluster.local", Default: mesh.DefaultDeny}
	})
	c := w.dial().http2(true)
	c.head(1, false, strings.Replace(h2get, "GET", "POST", 1))
	// R8.5
	c.expectFrame("HEADERS 1 END :status: 403; content-length: 0;")
	c.expectFrame("RST_STREAM 1 NO_ERROR")
}

// R4.3: a connection that is retired closes after its last stream, also when the
// server resets it after the whole response (RFC 9113, section 8.1).
func TestRetiredConnectionClosesAfterAReset(t *testing.T) {
	policy := mesh.TargetPolicy{Kind: mesh.TargetService, Service: "catalog", Namespace: "shop", Port: 80}
	w := newWorld(t, shapeOut, func(k *knobs) { k.policy = policy })
	c := w.dial().http2(true)
	c.head(1, false, strings.Replace(h2get, "GET", "POST", 1))
	s := w.accept().http2(false)
	s.must(s.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 5}))
	w.run(time.Millisecond)
	c.must(c.fr.WriteData(1, true, []byte("0123456789")))
	s.expectFrame("HEADERS 1 :method: POST; :scheme: http; :path: /; :authority: a;")
	s.expectFrame("DATA 1 01234")
	w.outD.Set(target, &policy) // the endpoint leaves
	w.run(time.Millisecond)
	s.head(1, true, ":status: 413")
	s.must(s.fr.WriteRSTStream(1, http2.ErrCodeNo))
	c.expectFrame("HEADERS 1 END :status: 413;")
	s.expectFrame("end (eof true, <nil>)")
}

// R11.2, R4.3: a connection that drains serves what was on its way, and closes
// after its last stream.
func TestDrainingServesWhatWasOnItsWay(t *testing.T) {
	w := newWorld(t, shapeIn, nil)
	c := w.dial().http2(true)
	w.run(time.Millisecond)
	h1 := w.dial()
	h1.send(get)
	app := w.accept()
	app.expect(get)
	w.inD.SetInbound(&mesh.InboundPolicy{TrustDomain: "cluster.local", Terminating: true})
	c.expectFrame("GOAWAY 2147483647 NO_ERROR")
	c.head(1, true, h2get)
	s := w.accept().http2(false)
	s.expectFrame("HEADERS 1 END :method: GET; :scheme: http; :path: /; :authority: a;")
	c.expectFrame("GOAWAY 1 NO_ERROR")
	s.head(1, true, ":status: 204")
	c.expectFrame("HEADERS 1 END :status: 204;")
	c.expectEOF()
	app.send(ok)
	h1.expect("HTTP/1.1 200 OK\nContent-Length: 2\nConnection: close\n\nok")
	h1.expectEOF()
}

// R11.2: a connection that had not said what it speaks when its workload's end
// began is told too.
func TestDrainingTellsAConnectionThatIsStillSilent(t *testing.T) {
	w := newWorld(t, shapeIn, nil)
	c := w.dial()
	w.run(time.Millisecond)
	w.inD.SetInbound(&mesh.InboundPolicy{TrustDomain: "cluster.local", Terminating: true})
	w.run(time.Millisecond)
	c.http2(true).expectFrame("GOAWAY 2147483647 NO_ERROR")
}

// R4.3: a reset is passed on with its code, both ways.
func TestResetsKeepTheirCode(t *testing.T) {
	w := newWorld(t, shapeMesh, nil)
	c := w.dial().http2(true)
	c.head(1, false, h2get)
	s := w.accept().http2(false)
	if f := s.frame(); !strings.HasPrefix(f, "HEADERS 1 ") {
		t.Fatal(f)
	}
	c.must(c.fr.WriteRSTStream(1, 11)) // ENHANCE_YOUR_CALM
	s.expectFrame("RST_STREAM 1 ENHANCE_YOUR_CALM")
	c.head(3, false, h2get)
	if f := s.frame(); !strings.HasPrefix(f, "HEADERS 3 ") {
		t.Fatal(f)
	}
	s.head(3, false, ":status: 200")
	c.expectFrame("HEADERS 3 :status: 200;")
	s.must(s.fr.WriteRSTStream(3, 10)) // CONNECT_ERROR
	c.expectFrame("RST_STREAM 3 CONNECT_ERROR")
}

// R2.3: inside tulle/tcp it is detected what the bytes are: a client whose own
// proxy was told that a port is opaque does not get round the policy of requests.
func TestOpaqueHopIsDetectedAtItsEnd(t *testing.T) {
	w := newWorld(t, shapeMesh, func(k *knobs) { k.policy.Protocol = mesh.ProtocolOpaque })
	c := w.dial()
	c.send("GET / HTTP/1.1\nHost: a\nTulle-Client-Id: me\n\n")
	w.accept().expectEOF() // connected at once, for a server that might speak first
	s := w.accept()
	s.expect(w.request("GET / HTTP/1.1\nHost: a\n\n")) // served as a request
	s.send(ok)
	c.expect(ok)
}

// R4.5: what clients cancel counts against each at its own door. All that they cancel goes over one
// connection between the proxies, which stays for those that cancel nothing.
func TestManyClientsThatGoCostTheOthersNothing(t *testing.T) {
	w := newWorld(t, shapeMesh, nil)
	c := w.dial()
	c.send("POST / HTTP/1.1\nHost: a\nContent-Length: 2\n\n")
	s := w.accept()
	s.expect(w.request("POST / HTTP/1.1\nHost: a\nContent-Length: 2\n\n"))
	for range 10 {
		var gone []*conn
		for range 40 {
			g := w.dial()
			g.send(get)
			gone = append(gone, g)
		}
		w.run(100 * time.Millisecond)
		for _, g := range gone {
			g.e.Close(true)
		}
		w.run(100 * time.Millisecond)
	}
	if n := w.in.Counted().Refused[metrics.RefusedFlood]; n != 0 {
		t.Errorf("%d connections between the proxies were ended for a flood", n)
	}
	c.send("hi")
	s.expect("hi")
	s.send(ok)
	c.expect(ok)
}
