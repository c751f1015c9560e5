package mesh

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/proxy/hop"
)

// Attacks of servers: the application behind the inbound proxy, and a peer with a good certificate whom
// the outbound proxy dials. Here the proxy is the client: it must neither hang, nor grow, nor pass on
// what it would refuse from a client.

// sabotage is what a server does to each connection that reaches it, over HTTP/2.
type sabotage struct {
	name string
	do   func(e *foe)
	// want is the answer that the client gets, by its status.
	want string
}

func sabotages() []sabotage {
	first := func(payload string) func(e *foe) {
		return func(e *foe) { e.say(http2.FrameSettings, 0, 0, payload) }
	}
	// answer says its SETTINGS, waits for the request and goes on.
	answer := func(f func(e *foe, id uint32)) func(e *foe) {
		return func(e *foe) {
			e.say(http2.FrameSettings, 0, 0, "")
			e.flush()
			f(e, e.wantRequest())
		}
	}
	many := func(n int, f func(e *foe, id uint32, i int)) func(e *foe) {
		return answer(func(e *foe, id uint32) {
			for i := range n {
				f(e, id, i)
				if i%10 == 0 && !e.flush() {
					return
				}
			}
		})
	}
	return []sabotage{
		{"no SETTINGS but a page", func(e *foe) { e.out.WriteString("HTTP/1.1 400 Bad Request\r\n\r\n") }, "502"},
		{"frames of no size", first(setting(http2.SettingMaxFrameSize, 0)), "502"},
		{"frames too large", first(setting(http2.SettingMaxFrameSize, 1<<24)), "502"},
		{"a window that overflows", first(setting(http2.SettingInitialWindowSize, 1<<31)), "502"},
		{"push", first(setting(http2.SettingEnablePush, 1)), "502"},
		{"an odd setting", first("12345"), "502"},
		{"thousands of settings", first(strings.Repeat(setting(99, 1), 5000)), "502"},
		{"SETTINGS", many(1000, func(e *foe, _ uint32, _ int) {
			e.say(http2.FrameSettings, 0, 0, setting(http2.SettingInitialWindowSize, 1<<16))
		}), "502"},
		{"PING", many(2000, func(e *foe, _ uint32, _ int) { e.say(http2.FramePing, 0, 0, "12345678") }), "502"},
		{"unknown frames, too many", many(5000, func(e *foe, _ uint32, i int) { e.say(http2.FrameType(0x0a+i%6), 0xff, 0, "x") }), "502"},
		{"interim heads without end", many(5000, func(e *foe, id uint32, _ int) { e.head(id, false, fields{":status: 103", "a: b"}) }), "502"},
		{"a table of 4 GiB", answer(func(e *foe, id uint32) {
			e.say(http2.FrameSettings, 0, 0, setting(http2.SettingHeaderTableSize, 1<<32-1))
			e.head(id, true, fields{":status: 200"})
		}), "200"},
		{"unknown frames", answer(func(e *foe, id uint32) {
			for kind := http2.FrameType(0x0a); kind < 0x20; kind++ {
				e.say(kind, 0xff, id*uint32(kind%2), "xyz")
			}
			e.head(id, true, fields{":status: 200"})
		}), "200"},
		{"PUSH_PROMISE", answer(func(e *foe, id uint32) {
			e.say(http2.FramePushPromise, http2.FlagPushPromiseEndHeaders, id, number(2)+"\x82")
		}), "502"},
		{"a head that never ends", many(1000, func(e *foe, id uint32, i int) {
			kind := http2.FrameContinuation
			if i == 0 {
				kind = http2.FrameHeaders
			}
			e.say(kind, 0, id, strings.Repeat("\x00", 300))
		}), "502"},
		{"an HPACK bomb", answer(func(e *foe, id uint32) { e.block(id, true, append([]byte{0x88}, bomb(e)...)) }), "502"},
		{"a window that is flooded", answer(func(e *foe, id uint32) { e.say(http2.FrameWindowUpdate, 0, 0, number(1<<31-1)) }), "502"},
		{"CR LF in a value", answer(func(e *foe, id uint32) { e.head(id, true, fields{":status: 200", "a: b\r\nset-cookie: c"}) }), "502"},
		{"NUL in a value", answer(func(e *foe, id uint32) { e.head(id, true, fields{":status: 200", "a: b\x00"}) }), "502"},
		{"a coding", answer(func(e *foe, id uint32) { e.head(id, false, fields{":status: 200", "transfer-encoding: chunked"}) }), "502"},
		{"two lengths", answer(func(e *foe, id uint32) {
			e.head(id, false, fields{":status: 200", "content-length: 1", "content-length: 2"})
		}), "502"},
		{"101", answer(func(e *foe, id uint32) { e.head(id, false, fields{":status: 101"}) }), "502"},
		{"no status", answer(func(e *foe, id uint32) { e.head(id, true, fields{"a: b"}) }), "502"},
		{"a frame cut short", answer(func(e *foe, id uint32) {
			e.out.WriteString("\x00\x00\xff\x01\x04" + number(id) + "\x88")
			e.flush()
			ok(e.t, e.Conn.(interface{ CloseWrite() error }).CloseWrite()) // a close would be a reset where what the proxy said is unread
		}), "502"},
		{"a head of nobody's", answer(func(e *foe, id uint32) { e.head(id+100, true, fields{":status: 200"}) }), "502"},
	}
}

// TestServersThatAttackOverHTTP2: R4.5, R4.6, R8.2. As the application and as a peer: the client has its
// answer, which says what was wrong, the proxy is well, and neighbours notice nothing.
func TestServersThatAttackOverHTTP2(t *testing.T) {
	s := newSiege(t)
	for i, b := range sabotages() {
		t.Run("the application: "+b.name, func(t *testing.T) {
			at, l := s.listen(t)
			serveTCP(t, l, func(c *net.TCPConn) { play2(t, c, b) })
			s.suffer(t, at, b)
		})
		if i >= rogueSlots {
			t.Fatal("too few slots for rogues")
		}
		t.Run("a peer: "+b.name, func(t *testing.T) {
			l, err := net.Listen("tcp", addrPort(s.net+"6", slotPort(i)).String())
			ok(t, err)
			leaf := s.good.leaf(-time.Hour, time.Hour, mesh.NewIdentity(trustDomain, "shop", "rogue"))
			serveTCP(t, l, func(c *net.TCPConn) {
				e := tls.Server(c, &tls.Config{
					Certificates: []tls.Certificate{leaf}, ClientAuth: tls.RequireAnyClientCert, NextProtos: []string{hop.ALPNHTTP}, MinVersion: tls.VersionTLS13,
				})
				if e.Handshake() == nil {
					play2(t, e, b)
				}
			})
			s.suffer(t, addrPort(s.net+"2", slotPort(1000+i)).String(), b)
		})
	}
	s.served(t)
}

// play2 plays the server on one connection. One that ends before its preface was a probe (R2.5).
func play2(t *testing.T, c net.Conn, b sabotage) {
	head := make([]byte, len(http2.ClientPreface))
	if n, err := io.ReadFull(c, head); err != nil {
		if n != 0 {
			t.Errorf("the proxy said %q, %v", head[:n], err)
		}
		return
	}
	e := foeOn(t, c)
	go e.listen() // ends with the connection
	b.do(e)
	e.flush()
	<-e.ended
}

// suffer is a client of a server that attacks.
func (s *siege) suffer(t *testing.T, at string, b sabotage) {
	t.Helper()
	e := newFoe(t, connect(t, at))
	e.head(1, true, toVictim("/x"))
	e.flush()
	e.wantStatus(1, b.want)
	if why := e.field(1, "tulle-proxy-error"); b.want == "502" && !strings.Contains(why, "bad response") && !strings.Contains(why, "closed by the peer") && !strings.Contains(why, "stream reset") {
		t.Errorf("the client is told %q", why)
	}
	s.served(t)
}

// sabotage1 is the same over HTTP/1: what a server says to one request.
type sabotage1 struct{ name, says, want string }

func sabotages1() []sabotage1 {
	const fine = "HTTP/1.1 200 OK\r\n"
	return []sabotage1{
		{"both framings", fine + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "502"},
		{"two lengths", fine + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", "502"},
		{"a coding that is none", fine + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "502"},
		{"a bare LF", fine + "A: b\nSet-Cookie: c\r\nContent-Length: 0\r\n\r\n", "502"},
		{"a bare CR", fine + "A: b\rSet-Cookie: c\r\nContent-Length: 0\r\n\r\n", "502"},
		{"a folded line", fine + "A: b\r\n c\r\nContent-Length: 0\r\n\r\n", "502"},
		{"a space before the colon", fine + "Content-Length : 0\r\n\r\n", "502"},
		{"NUL", fine + "A: \x00\r\nContent-Length: 0\r\n\r\n", "502"},
		{"a head without end", fine + strings.Repeat("A: "+strings.Repeat("v", 1000)+"\r\n", 300), "502"},
		{"fields without end", fine + strings.Repeat("A: b\r\n", 10000), "502"},
		{"101 unasked", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "502"},
		{"101 to h2c", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", "502"},
		{"HTTP/2 unasked", "\x00\x00\x00\x04\x00\x00\x00\x00\x00", "502"},
		{"no status", "HTTP/1.1 OK\r\n\r\n", "502"},
		{"nothing", "", "502"},
		{"another response behind", fine + "Content-Length: 2\r\n\r\nok" + fine + "Content-Length: 4\r\n\r\nevil", "200"},
		{"more than its length", fine + "Content-Length: 2\r\n\r\nokHTTP/1.1 200 evil\r\nContent-Length: 4\r\n\r\nevil", "200"},
		{"a body where none is", "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nevil", "304"},
	}
}

// TestServersThatAttackOverHTTP1: R3.4, R8.2. What a server says behind a response answers nobody's next
// request.
func TestServersThatAttackOverHTTP1(t *testing.T) {
	s := newSiege(t)
	for _, b := range sabotages1() {
		t.Run(b.name, func(t *testing.T) {
			x := newWire(t, s.world)
			for i := range 2 { // the second after the first
				c := x.client()
				c.send(fmt.Sprintf("GET /%d HTTP/1.1\r\nHost: x\r\n\r\n", i))
				a := x.app()
				if got := a.head(); !strings.HasPrefix(got, fmt.Sprintf("GET /%d ", i)) {
					t.Errorf("the application got %q", got)
				}
				_, _ = io.WriteString(a.TCPConn, b.says) // it may be cut off in the middle
				if b.want == "502" {
					_ = a.CloseWrite() // it was cut off
				}
				if got := c.head(); !strings.HasPrefix(got, "HTTP/1.1 "+b.want+" ") {
					t.Errorf("request %d is answered %q", i, got)
				}
				a.wantEOFOrReset() // never used again
				c.Close()
			}
			s.served(t)
		})
	}
}
