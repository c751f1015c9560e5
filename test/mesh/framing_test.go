package mesh

import (
	"fmt"
	"strings"
	"testing"
)

func framingCases() []meshCase {
	return []meshCase{
		{"framing/chunked and trailers", chunkedBothWays},
		{"framing/close delimited", closeDelimited},
		{"framing/100-continue", expectContinue},
		{"framing/early hints", earlyHints},
		{"framing/pipelining", pipelining},
		{"framing/keep-alive of 1.0", keepAlive10},
		{"framing/CONNECT", connectTunnel},
		{"framing/CONNECT refused", connectRefused},
		{"framing/upgrade", upgradeTunnel},
		{"framing/upgrade refused", upgradeRefused},
		{"framing/smuggling", smuggling},
	}
}

// R3.1: chunked stays chunked, and trailers arrive with their case and order.
func chunkedBothWays(t *testing.T, w *world) {
	x := newWire(t, w)
	c := x.client()
	req := "POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, x-other\r\n\r\n"
	c.send(req + "5;ext=1\r\nhello\r\nA\r\n0123456789\r\n0\r\nX-Sum: 15\r\nx-OTHER: b\r\nx-other: c\r\n\r\n")
	a := x.app()
	if got := a.head(); got != added(req) {
		t.Errorf("the application got %q", got)
	}
	body, trailers := a.chunked()
	if body != "hello0123456789" || trailers != "X-Sum: 15\r\nx-OTHER: b\r\nx-other: c\r\n\r\n" {
		t.Errorf("body %q, trailers %q", body, trailers)
	}
	resp := "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nTrailer: X-End\r\n\r\n"
	a.send(resp + "3\r\nabc\r\n0\r\nX-End: yes\r\nX-end: again\r\n\r\n")
	if got := c.head(); got != resp {
		t.Errorf("the client got %q", got)
	}
	body, trailers = c.chunked()
	if body != "abc" || trailers != "X-End: yes\r\nX-end: again\r\n\r\n" {
		t.Errorf("body %q, trailers %q", body, trailers)
	}
}

// R3.1: a body without a length ends with its connection, and only then.
func closeDelimited(t *testing.T, w *world) {
	x := newWire(t, w)
	for _, version := range []string{"1.0", "1.1"} {
		c := x.client()
		c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		a := x.app()
		a.head()
		a.send("HTTP/" + version + " 200 OK\r\nX: y\r\n\r\nbody")
		if got, want := c.head(), "HTTP/"+version+" 200 OK\r\nX: y\r\nConnection: close\r\n\r\n"; got != want {
			t.Errorf("the client got %q, want %q", got, want)
		}
		c.want("body")
		a.send(" and more")
		c.want(" and more")
		a.Close()
		c.wantEOF()
	}
}

// R3.1: 100 comes from the application, and only when it says so.
func expectContinue(t *testing.T, w *world) {
	x := newWire(t, w)
	c := x.client()
	req := "POST /e HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
	c.send(req)
	a := x.app()
	if got := a.head(); got != added(req) {
		t.Errorf("the application got %q", got)
	}
	a.send("HTTP/1.1 100 Go On\r\nX-Interim: 1\r\n\r\n")
	if got, want := c.head(), "HTTP/1.1 100 Go On\r\nX-Interim: 1\r\n\r\n"; got != want {
		t.Errorf("the client got %q, want %q", got, want)
	}
	c.send("body")
	a.want("body")
	a.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	c.want("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

	c.send(req) // refused without 100: the body is never sent
	a.head()
	a.send("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")
	if got := c.head(); !strings.HasPrefix(got, "HTTP/1.1 417 No\r\nContent-Length: 0\r\n") {
		t.Errorf("the client got %q", got)
	}
}

func earlyHints(t *testing.T, w *world) {
	x := newWire(t, w)
	c := x.client()
	c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	a := x.app()
	a.head()
	const hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nlink: </b>\r\n\r\n"
	a.send(hints)
	c.want(hints)
	a.send(hints + "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	c.want(hints + "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
}

// Pipelined requests are answered in their order (RFC 9112, section 9.3.2).
func pipelining(t *testing.T, w *world) {
	x := newWire(t, w)
	c := x.client()
	var all, want strings.Builder
	const n = 20
	for i := range n {
		body := strings.Repeat("b", i)
		fmt.Fprintf(&all, "POST /%d HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", i, i, body)
		fmt.Fprintf(&want, "HTTP/1.1 200 OK\r\nX-N: %d\r\nContent-Length: 1\r\n\r\n.", i)
	}
	c.send(all.String())
	a := x.app()
	for i := range n {
		if got, want := a.head(), added(fmt.Sprintf("POST /%d HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", i, i)); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
		a.want(strings.Repeat("b", i))
		a.send(fmt.Sprintf("HTTP/1.1 200 OK\r\nX-N: %d\r\nContent-Length: 1\r\n\r\n.", i))
	}
	c.want(want.String())
}

// keepAlive10: an HTTP/1.0 client that asks for it keeps its connection.
func keepAlive10(t *testing.T, w *world) {
	x := newWire(t, w)
	c := x.client()
	var a *raw
	for i := range 3 {
		c.send(fmt.Sprintf("GET /%d HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", i))
		if a == nil {
			a = x.app()
		}
		if got := a.head(); !strings.HasPrefix(got, fmt.Sprintf("GET /%d HTTP/1.0\r\n", i)) {
			t.Errorf("the application got %q", got)
		}
		again := ""
		if strings.Contains(strings.ToLower(a.last), "keep-alive") {
			again = "Connection: keep-alive\r\n"
		}
		a.send("HTTP/1.0 200 OK\r\n" + again + "Content-Length: 1\r\n\r\n.")
		if again == "" {
			a.Close()
			a = nil
		}
		if got := c.head(); !strings.Contains(strings.ToLower(got), "connection: keep-alive\r\n") {
			t.Fatalf("the client got %q", got)
		}
		c.want(".")
	}
}

// R3.3: CONNECT becomes a tunnel after 2xx, early bytes included, half-close kept.
func connectTunnel(t *testing.T, w *world) {
	x := newWire(t, w)
	c := x.client()
	req := "CONNECT db.example:5432 HTTP/1.1\r\nHost: db.example:5432\r\n\r\n"
	c.send(req)
	a := x.app()
	if got := a.head(); got != added(req) {
		t.Errorf("the application got %q", got)
	}
	a.send("HTTP/1.1 200 Connected\r\nX-Via: app\r\n\r\nearly")
	c.want("HTTP/1.1 200 Connected\r\nX-Via: app\r\n\r\nearly")
	halves(t, c, a)
}

// halves: bytes both ways, then each direction ends alone; here the client first.
func halves(t *testing.T, c, a *raw) {
	t.Helper()
	c.send("\x00\x01GET / HTTP/1.1\r\n\r\n")
	a.want("\x00\x01GET / HTTP/1.1\r\n\r\n")
	a.send("HTTP/1.1 200 Not Really\r\n\r\n")
	c.want("HTTP/1.1 200 Not Really\r\n\r\n")
	ok(t, c.CloseWrite())
	a.wantEOF()
	big := strings.Repeat("after the client's end ", 50_000)
	go func() { // ends with the connection
		a.TCPConn.Write([]byte(big))
		a.CloseWrite()
	}()
	c.want(big)
	c.wantEOF()
}

func connectRefused(t *testing.T, w *world) {
	x := newWire(t, w)
	c := x.client()
	c.send("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")
	a := x.app()
	a.head()
	a.send("HTTP/1.1 407 Who?\r\nContent-Length: 3\r\n\r\nno.")
	if got := c.head(); !strings.HasPrefix(got, "HTTP/1.1 407 Who?\r\nContent-Length: 3\r\n") {
		t.Errorf("the client got %q", got)
	}
	c.want("no.")
}

// R3.3: Upgrade with any token.
func upgradeTunnel(t *testing.T, w *world) {
	x := newWire(t, w)
	c := x.client()
	c.send("GET /chat HTTP/1.1\r\nHost: x\r\nUpgrade: My-Chat/2\r\nCoNnection: upgrade\r\nX-After: 1\r\n\r\n")
	a := x.app()
	if got, want := a.head(), "GET /chat HTTP/1.1\r\nHost: x\r\nUpgrade: My-Chat/2\r\nX-After: 1\r\n"+clientField+"Connection: Upgrade\r\n\r\n"; got != want {
		t.Errorf("the application got %q, want %q", got, want)
	}
	a.send("HTTP/1.1 101 Here We Go\r\nUpgrade: My-Chat/2\r\nConnection: Upgrade\r\nX-aB: c\r\n\r\nearly")
	c.want("HTTP/1.1 101 Here We Go\r\nUpgrade: My-Chat/2\r\nX-aB: c\r\nConnection: Upgrade\r\n\r\nearly")
	halves(t, c, a)
}

func upgradeRefused(t *testing.T, w *world) {
	x := newWire(t, w)
	c := x.client()
	c.send("GET /chat HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
	a := x.app()
	a.head()
	a.send("HTTP/1.1 403 No Chat\r\nContent-Length: 2\r\n\r\nno")
	c.want("HTTP/1.1 403 No Chat\r\nContent-Length: 2\r\n\r\nno")
	c.send("GET /next HTTP/1.1\r\nHost: x\r\n\r\n")
	if got := a.head(); got != added("GET /next HTTP/1.1\r\nHost: x\r\n\r\n") {
		t.Errorf("the application got %q", got)
	}
}

// R3.4: what smuggles requests is answered 400, and the connection ends; nothing reaches the application.
func smuggling(t *testing.T, w *world) {
	x := newWire(t, w)
	for name, bad := range map[string]string{
		"length and chunked":    "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"two lengths":           "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
		"not quite chunked":     "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"chunked in 1.0":        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"space before colon":    "GET / HTTP/1.1\r\nHost : x\r\n\r\n",
		"folded":                "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
		"bare LF":               "GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n",
		"two hosts":             "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
		"no host":               "GET / HTTP/1.1\r\nA: b\r\n\r\n",
		"NUL":                   "GET / HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n",
		"connection names host": "GET / HTTP/1.1\r\nHost: x\r\nConnection: host\r\n\r\n",
		"CONNECT with a path":   "CONNECT /x HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		c := x.client()
		c.send(bad)
		if got := c.head(); !strings.HasPrefix(got, "HTTP/1.1 400 ") {
			t.Errorf("%s: %q", name, got)
		}
		c.wantEOFOrReset()
	}
	x.quiet(50_000_000)
}
