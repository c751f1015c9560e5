package mesh

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/tulle-mesh/tulle/proxy/hop"
)

// Attacks of HTTP/1 clients by both plaintext doors (R3.4, R1.5): answered with a status, the connection
// ended, counted, and nothing of it reaches the application.

// smuggle is bytes that two parsers might read unlike; what follows them would be a second request.
type smuggle struct{ class, name, bytes string }

func smuggles() []smuggle {
	const inner = "GET /admin HTTP/1.1\r\nHost: x\r\n\r\n"
	post := func(lines ...string) string {
		return "POST / HTTP/1.1\r\nHost: x\r\n" + strings.Join(append(lines, "", ""), "\r\n")
	}
	chunks := func(b string) string { return post("Transfer-Encoding: chunked") + b }
	list := []smuggle{
		{"CL.TE", "both", post("Content-Length: 6", "Transfer-Encoding: chunked") + "0\r\n\r\nG"},
		{"TE.CL", "both, turned round", post("Transfer-Encoding: chunked", "Content-Length: 4") + "5c\r\n" + inner + "\r\n0\r\n\r\n"},
		{"CL.TE", "in HTTP/1.0", "POST / HTTP/1.0\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG"},
		{"TE.0", "on OPTIONS, with a length of none", "OPTIONS / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n50\r\n" + inner},
		{"TE.0", "HTTP/1.0 and a coding", "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
		{"0.CL", "a length that is folded", post("Content-Length:", " 23") + inner},
		{"0.CL", "a space before its colon", post("Content-Length : 23") + inner},
		{"0.CL", "a plus", post("Content-Length: +5") + "hello"},
		{"0.CL", "a hexadecimal", post("Content-Length: 0x5") + "hello"},
		{"0.CL", "a list", post("Content-Length: 5, 5") + "hello"},
		{"0.CL", "none", post("Content-Length:") + "hello"},
		{"0.CL", "negative", post("Content-Length: -1") + "hello"},
		{"0.CL", "twice, differing", post("Content-Length: 5", "Content-Length: 0") + "hello"},
		{"0.CL", "overflowing", post("Content-Length: 18446744073709551621") + "hello"},
		{"0.CL", "named by Connection", post("Connection: Content-Length", "Content-Length: 5") + "hello"},
		{"obs-fold", "of any field", post("A: b", "\tc")},
		{"bare LF", "between fields", "GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n"},
		{"bare LF", "after the request line", "GET / HTTP/1.1\nHost: x\r\n\r\n"},
		{"bare LF", "after a chunk's size", chunks("5\nhello\r\n0\r\n\r\n")},
		{"bare LF", "after a chunk", chunks("5\r\nhello\n0\r\n\r\n")},
		{"bare LF", "in a chunk's extension", chunks("5;a\nb\r\nhello\r\n0\r\n\r\n")},
		{"bare CR", "in a field", post("A: b\rTransfer-Encoding: chunked")},
		{"bare CR", "after a chunk's size", chunks("5\rX\nhello\r\n0\r\n\r\n")},
		{"chunk size", "overflowing", chunks("10000000000000005\r\nhello\r\n0\r\n\r\n")},
		{"chunk size", "with 0x", chunks("0x5\r\nhello\r\n0\r\n\r\n")},
		{"chunk size", "negative", chunks("-5\r\nhello\r\n0\r\n\r\n")},
		{"chunk size", "a space before", chunks(" 5\r\nhello\r\n0\r\n\r\n")},
		{"chunk size", "with an underscore", chunks("0_5\r\nhello\r\n0\r\n\r\n")},
		{"chunk size", "none", chunks("\r\nhello\r\n0\r\n\r\n")},
		{"chunk size", "shorter than the chunk", chunks("3\r\nhello\r\n0\r\n\r\n")},
		{"chunk extension", "larger than all chunks", chunks(strings.Repeat("1;"+strings.Repeat("e", 4000)+"\r\nx\r\n", 100))},
		{"trailer", "that frames", chunks("0\r\nContent-Length: 5\r\n\r\n")},
		{"target", "a control byte", "GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n"},
		{"target", "an absolute form of another host", "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n"},
		{"host", "two", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"},
		{"host", "none", "GET / HTTP/1.1\r\nA: b\r\n\r\n"},
		{"NUL", "in a value", post("A: b\x00c")},
		{"detection", "empty lines before", "\r\n\r\n\n\nGET /admin HTTP/1.1\r\nHost: x\r\ntulle-client-id: boss\r\n\r\n"},
		{"detection", "blanks before", " GET /admin HTTP/1.1\r\nHost: x\r\ntulle-client-id: boss\r\n\r\n"},
		{"detection", "blanks behind", "GET /admin HTTP/1.1 \r\nHost: x\r\ntulle-client-id: boss\r\n\r\n"},
		{"detection", "tabs", "GET\t/admin\tHTTP/1.1\r\nHost: x\r\ntulle-client-id: boss\r\n\r\n"},
		{"detection", "an odd version", "GET /admin HTTP/1.10\r\nHost: x\r\ntulle-client-id: boss\r\n\r\n"},
		{"detection", "a lower-case version", "GET /admin http/1.1\r\nHost: x\r\ntulle-client-id: boss\r\n\r\n"},
		{"detection", "a control byte", "GET /admin\x00 HTTP/1.1\r\nHost: x\r\ntulle-client-id: boss\r\n\r\n"},
		{"name", "with a space", post("A b: c")},
		{"name", "empty", post(": c")},
		{"CONNECT", "of a path", "CONNECT / HTTP/1.1\r\nHost: x\r\n\r\n"},
		{"h2c", "a preface behind a request", "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\nContent-Length: 0, 0\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
	}
	for _, te := range []string{
		"xchunked", "chunked, identity", "identity", "identity, chunked, chunked", "chunked;q=1", "\"chunked\"", "\x0bchunked", "chunked\x00", "cow, chunked", "",
	} {
		list = append(list, smuggle{"TE.TE", te, post("Transfer-Encoding: "+te) + "0\r\n\r\n"})
	}
	return append(list,
		smuggle{"TE.TE", "two fields", post("Transfer-Encoding: chunked", "Transfer-Encoding: cow") + "0\r\n\r\n"},
		smuggle{"TE.TE", "a space before the colon", post("Transfer-Encoding : chunked") + "0\r\n\r\n"},
		smuggle{"TE.TE", "folded", post("Transfer-Encoding:", " chunked") + "0\r\n\r\n"},
		smuggle{"TE.TE", "named by Connection", post("Connection: Transfer-Encoding", "Transfer-Encoding: chunked") + "0\r\n\r\n"})
}

// TestSmugglingHTTP1: R3.4.
func TestSmugglingHTTP1(t *testing.T) {
	s := newSiege(t)
	for _, d := range []door{fromApp, fromNet} {
		t.Run(d.String(), func(t *testing.T) {
			list := smuggles()
			x := newWire(t, s.world)
			s.attack(t, d, refusedFor("malformed"), len(list), func(t *testing.T) {
				for _, m := range list {
					s.smuggle(t, d, x, m)
				}
			})
		})
	}
}

// smuggle sends bad bytes: one 400 at most comes back, and the connection ends. Where the head is in
// order and the body is not, the application may have got the head: never a whole request.
func (s *siege) smuggle(t *testing.T, d door, x *wire, m smuggle) {
	t.Helper()
	c := newRaw(t, s.knock(t, d, slotOf(x.dial), "").(*net.TCPConn))
	c.send(m.bytes)
	got, err := io.ReadAll(c.r)
	refused := strings.HasPrefix(string(got), "HTTP/1.1 400 ") || m.class == "TE.TE" && strings.HasPrefix(string(got), "HTTP/1.1 501 ")
	if !refused || strings.Count(string(got), "HTTP/1.1 ") != 1 || err != nil && !isReset(err) {
		t.Errorf("%s, %s: answered %q, %v", m.class, m.name, got, err)
	}
	select {
	case a := <-x.accepted:
		ok(t, a.SetDeadline(deadline(t)))
		b, err := io.ReadAll(a)
		a.Close()
		head, body, whole := strings.Cut(string(b), "\r\n\r\n")
		if whole && (strings.HasSuffix(body, "0\r\n\r\n") || !strings.Contains(head, "Transfer-Encoding: chunked")) || strings.Contains(string(b), "/admin") {
			t.Errorf("%s, %s: the application got %q, %v", m.class, m.name, b, err)
		}
	default:
	}
}

// slotOf is the slot that is dialled at an address, but for the host of its application.
func slotOf(dial string) slot {
	_, port, _ := net.SplitHostPort(dial)
	return slot{dial: dial, app: ":" + port}
}

// tellMesh tells what a request says in the mesh's name.
func tellMesh(to chan<- string) http.HandlerFunc {
	return func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // its trailers are what counts
		var said []string
		for _, list := range []http.Header{r.Header, r.Trailer} {
			for name, values := range list {
				if strings.HasPrefix(strings.ToLower(name), "tulle") {
					said = append(said, values...)
				}
			}
		}
		to <- strings.Join(said, ", ")
	}
}

// TestHeadsTooLargeOverHTTP1: R1.5, R8.7: a status, not a connection that ends in silence, also for a
// client that is not done sending.
func TestHeadsTooLargeOverHTTP1(t *testing.T) {
	s := newSiege(t)
	const begin = "GET / HTTP/1.1\r\nHost: x\r\n"
	list := []struct{ name, bytes, want string }{
		{"a value", begin + "A: " + strings.Repeat("v", 80<<10) + "\r\n\r\n", "431"},
		{"a value that goes on", begin + "A: " + strings.Repeat("v", 300<<10), "431"},
		{"a name", begin + strings.Repeat("n", 80<<10) + ": v\r\n\r\n", "431"},
		{"many fields", begin + strings.Repeat("A: b\r\n", 300) + "\r\n", "431"},
		{"a target", "GET /" + strings.Repeat("p", 40<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n", "414"},
		{"a target that goes on", "GET /" + strings.Repeat("p", 300<<10), "414"},
	}
	for _, d := range []door{fromApp, fromNet} {
		t.Run(d.String(), func(t *testing.T) {
			s.attack(t, d, refusedFor("head"), len(list)-1, func(t *testing.T) {
				began := s.victim.begun.Load()
				for _, e := range list {
					c := newRaw(t, s.knock(t, d, s.victim.slot, "").(*net.TCPConn))
					_, _ = io.WriteString(c, e.bytes) // the answer may come before all is sent
					got, err := io.ReadAll(c.r)
					if !strings.HasPrefix(string(got), "HTTP/1.1 "+e.want+" ") {
						t.Errorf("%s: answered %q, %v", e.name, got, err)
					}
				}
				if n := s.victim.begun.Load() - began; n != 0 {
					t.Errorf("%d requests reached the application", n)
				}
			})
		})
	}
}

// TestNobodySpeaksInTheMeshsName: R5.5. What a client writes into tulle-* fields reaches no application,
// by no door; who the client is comes from its certificate alone.
func TestNobodySpeaksInTheMeshsName(t *testing.T) {
	s := newSiege(t)
	const rogue = "spiffe://" + trustDomain + "/ns/shop/sa/rogue"
	spoofed := fields{"tulle-client-id: " + string(serverID), "tulle-proxy-error: x", "tulle-hop: unprocessed", "tulle_client_id: boss"}
	for d, want := range map[door]string{fromApp: string(clientID), fromNet: "", fromInner: rogue} {
		t.Run("HTTP/2 "+d.String(), func(t *testing.T) {
			at, l := s.listen(t)
			got := make(chan string, 10)
			serveHTTP(t, l, tellMesh(got))
			e := newFoe(t, s.knock(t, d, slotOf(at), hop.ALPNHTTP))
			e.head(1, false, append(toVictim("/x"), spoofed...))
			e.head(1, true, spoofed)
			e.flush()
			e.wantStatus(1, "200")
			if who := <-got; who != want {
				t.Errorf("the application is told %q, want %q", who, want)
			}
		})
		if d == fromInner {
			continue
		}
		t.Run("HTTP/1 "+d.String(), func(t *testing.T) {
			at, l := s.listen(t)
			got := make(chan string, 10)
			serveHTTP(t, l, tellMesh(got))
			c := newRaw(t, s.knock(t, d, slotOf(at), "").(*net.TCPConn))
			c.send("POST / HTTP/1.1\r\nHost: x\r\nTulle-Client-ID: boss\r\nTULLE_CLIENT_ID: boss\r\nTransfer-Encoding: chunked\r\n\r\n0\r\ntulle-client-id: boss\r\n\r\n")
			if head := c.head(); !strings.HasPrefix(head, "HTTP/1.1 200 ") {
				t.Errorf("answered %q", head)
			}
			if who := <-got; who != want {
				t.Errorf("the application is told %q, want %q", who, want)
			}
		})
	}
	s.served(t)
}

// TestUpgradeAnswered200: R3.3, CVE-2024-23326: an upgrade that the application declines makes no tunnel.
// What the client sent behind it is the next request, and is parsed as one.
func TestUpgradeAnswered200(t *testing.T) {
	s := newSiege(t)
	for _, d := range []door{fromApp, fromNet} {
		t.Run(d.String(), func(t *testing.T) {
			x := newWire(t, s.world)
			c := newRaw(t, s.knock(t, d, slotOf(x.dial), "").(*net.TCPConn))
			const ask = "GET /up HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
			c.send(ask + "GET /next HTTP/1.1\r\nHost: x\r\nTulle-Client-Id: boss\r\n\r\n" + "GET /bad HTTP/1.1\r\nHost : x\r\n\r\n")
			a := x.app()
			a.head()
			const no = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno"
			a.send(no)
			c.want(no)
			if got := a.head(); !strings.HasPrefix(got, "GET /next HTTP/1.1\r\n") || strings.Contains(got, "boss") {
				t.Errorf("the application got %q", got)
			}
			a.send(no)
			c.want(no)
			if got := c.head(); !strings.HasPrefix(got, "HTTP/1.1 400 ") {
				t.Errorf("answered %q", got)
			}
			c.wantEOFOrReset()
		})
	}
	s.served(t)
}
