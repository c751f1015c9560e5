package proxy_test

import (
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/internal/mesh"
)

// R2.5: a connection that was opened in advance on a port that speaks HTTP
// outlives a time without an application; its request gets an answer.
func TestSilentConnectionOutlivesTheApplication(t *testing.T) {
	shapes(t, nil, func(t *testing.T, w *world) {
		_, s := w.warm()
		w.l.Close()
		silent := w.dial()
		silent.nothing(5 * time.Second)
		silent.send(get)
		s.expect(w.request(get)) // the pooled connection still stands
		s.send(ok)
		silent.expect(ok)
	})
}

// R2.5: where the port speaks HTTP, connections that were opened in advance do not
// all cost a connection to the server.
func TestManySilentConnectionsAskOneServerEachSecond(t *testing.T) {
	shapes(t, nil, func(t *testing.T, w *world) {
		w.warm()
		for range 50 {
			w.dial()
		}
		w.run(3500 * time.Millisecond)
		least, most := 1, 4
		if w.out == nil { // the inbound proxy's application is near: it is asked each time
			least, most = 50, 50
		}
		if n := len(w.accepted); n < least || n > most {
			t.Errorf("in 3.5 s the application was connected to %d times", n)
		}
	})
}

// R2.5: where nothing is known of the port, each of many silent clients gets to hear
// the server that speaks first.
func TestManySilentConnectionsAllHearTheServer(t *testing.T) {
	shapes(t, nil, func(t *testing.T, w *world) {
		clients := make([]*conn, 50)
		for i := range clients {
			clients[i] = w.dial()
		}
		for range clients {
			w.accept().send("220 ready\n")
		}
		for _, c := range clients {
			c.expect("220 ready\n")
		}
	})
}

// R2.5: a connection to a port that speaks HTTP that ends without a byte was
// opened in advance for nothing; the server need not hear of it.
func TestAConnectionThatEndsWithoutAByteIsNotPassedOn(t *testing.T) {
	shapes(t, nil, func(t *testing.T, w *world) {
		w.warm()
		c := w.dial()
		w.run(10 * time.Millisecond)
		c.e.CloseWrite()
		c.expectEOF()
		w.noAccept()
	})
}

// R2.5: a port that stopped to speak HTTP and speaks first is found out, once: the
// clients after that do not wait the second that a port of HTTP is given.
func TestAPortThatSpokeHTTPMaySpeakFirst(t *testing.T) {
	shapes(t, nil, func(t *testing.T, w *world) {
		w.run(11 * time.Minute) // a young inbound proxy waits the second for peers, too
		w.warm()
		for _, patience := range []time.Duration{1100 * time.Millisecond, 50 * time.Millisecond, 50 * time.Millisecond} {
			c := w.dial()
			w.run(patience)
			if len(w.accepted) != 1 {
				t.Fatalf("after %s the application was connected to %d times, want once", patience, len(w.accepted))
			}
			w.accept().send("220 ready\n")
			c.expect("220 ready\n")
		}
	})
}

// R2.4, R3.5: where the port is declared to be HTTP no server is asked whether it
// speaks first, and a client that says nothing is an idle one.
func TestASilentClientOfADeclaredHTTPPortIsIdle(t *testing.T) {
	w := newWorld(t, shapeMesh, func(k *knobs) { k.policy.Protocol = mesh.ProtocolHTTP1 })
	c := w.dial()
	c.nothing(80 * time.Second)
	w.noAccept()
	c.send(get)
	s := w.accept()
	s.expect(w.request(get))
	s.send(ok)
	c.expect(ok)
	c = w.dial()
	w.run(91 * time.Second)
	c.expectEOF()
	w.noAccept()
}

// R2.5, R3.5: a server that ends a silent connection in HTTP, with a 408 as a rule, has told what the
// port speaks; its client is an idle one, which is not kept for ever.
func TestASilentClientWhoseServerSpokeHTTPIsIdle(t *testing.T) {
	shapes(t, nil, func(t *testing.T, w *world) {
		c := w.dial()
		s := w.accept()
		s.send("HTTP/1.1 408 Request Timeout\nContent-Length: 0\nConnection: close\n\n")
		s.expectEOF()
		c.nothing(80 * time.Second)
		c.send(get)
		s = w.accept()
		s.expect(w.request(get))
		s.send(ok)
		c.expect(ok)

		w.run(11 * time.Minute) // nothing is known of the port any more
		c = w.dial()
		w.accept().send("HTTP/1.1 408 Request Timeout\nContent-Length: 0\nConnection: close\n\n")
		w.run(92 * time.Second)
		c.expectEOF()
	})
}
