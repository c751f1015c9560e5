package mesh

import (
	"strings"
	"testing"
)

func headCases() []meshCase {
	return []meshCase{
		{"heads/requests", requestHeads},
		{"heads/responses", responseHeads},
		{"heads/removed", removedFields},
	}
}

// clientField is all that the mesh adds to a request (R3.1); it stands last.
var clientField = "tulle-client-id: " + string(clientID) + "\r\n"

// added is what an application receives when a client sends head: what was sent, and the list of
// R3.1.
func added(head string) string { return strings.TrimSuffix(head, "\r\n") + clientField + "\r\n" }

// exchange is one request with its response, byte by byte.
type exchange struct {
	name, request, response string
	// body follows the head of the request or response as it stands; the other end gets the same bytes.
	requestBody, responseBody string
	// gets is what the application receives where added would not say it, has what the client does.
	gets, has string
	close     bool // the client's connection ends after it
}

// R3.1: what goes in comes out, byte for byte, up to the limits of R1.5.
func requestHeads(t *testing.T, w *world) {
	const fine = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	play(t, w, []exchange{
		{name: "case, order, duplicates", request: "GET /a/../b//c?q=%41+%2f HTTP/1.1\r\nhOsT: Example.COM:80\r\nX-b: 1\r\nx-A: 2\r\nX-B: 3\r\nx-a:\r\n" +
			"COOKIE: a=b\r\ncookie: c=d\r\nUser-Agent: raw\r\n\r\n",
			gets: "GET /a/../b//c?q=%41+%2f HTTP/1.1\r\nhOsT: Example.COM:80\r\nX-b: 1\r\nx-A: 2\r\nX-B: 3\r\nx-a: \r\n" +
				"COOKIE: a=b\r\ncookie: c=d\r\nUser-Agent: raw\r\n" + clientField + "\r\n", response: fine},
		{name: "absolute form", request: "GET http://Other.example/x?y HTTP/1.1\r\nHost: Other.example\r\nA: b\r\n\r\n", response: fine},
		{name: "asterisk", request: "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", response: fine},
		{name: "unknown method", request: "BREW-1 /pot HTTP/1.1\r\nHost: x\r\n\r\n", response: fine},
		{name: "bytes over 0x7f", request: "GET /caf%C3%A9 HTTP/1.1\r\nHost: x\r\nX-Raw: caf\xc3\xa9 \xff\r\n\r\n", response: fine},
		{name: "long value", request: "GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + strings.Repeat("v", 30000) + "\r\n\r\n", response: fine},
		{name: "two hundred fields", request: "GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X-Many: y\r\n", 200) + "\r\n", response: fine},
		{name: "length", request: "POST /p HTTP/1.1\r\nHost: x\r\ncontent-LENGTH: 5\r\nZ: 1\r\n\r\n", requestBody: "hello", response: fine},
		{name: "zero length", request: "POST /p HTTP/1.1\r\nContent-Length: 0\r\nHost: x\r\n\r\n", response: fine},
		{name: "te trailers", request: "GET / HTTP/1.1\r\nHost: x\r\nTE: trailers\r\n\r\n", response: fine},
		{name: "te trailers, connection", request: "GET / HTTP/1.1\r\nHost: x\r\nConnection: TE\r\nTE: trailers\r\n\r\n",
			gets: "GET / HTTP/1.1\r\nHost: x\r\nTE: trailers\r\n" + clientField + "\r\n", response: fine},
		{name: "HTTP/1.0", request: "GET /old HTTP/1.0\r\nA: b\r\n\r\n", gets: "*", response: "HTTP/1.0 200 Fine\r\nContent-Length: 2\r\n\r\n", responseBody: "ok", has: "*", close: true},
	})
}

// R3.1: reason phrases, case, order, lengths of responses without a body.
func responseHeads(t *testing.T, w *world) {
	const get = "GET /r HTTP/1.1\r\nHost: x\r\n\r\n"
	const head = "HEAD /r HTTP/1.1\r\nHost: x\r\n\r\n"
	play(t, w, []exchange{
		{name: "case, order, duplicates", request: get, response: "HTTP/1.1 200 All Right, Then\r\nX-b: 1\r\nx-A: 2\r\nX-B: 3\r\nset-COOKIE: a\r\nSet-Cookie: b\r\nContent-Length: 3\r\nx-last: z\r\n\r\n", responseBody: "abc"},
		{name: "empty reason", request: get, response: "HTTP/1.1 299 \r\nContent-Length: 0\r\n\r\n"},
		{name: "204", request: get, response: "HTTP/1.1 204 No Content\r\nX: y\r\n\r\n"},
		{name: "304 with a length", request: get, response: "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 1234\r\n\r\n"},
		{name: "304 without", request: get, response: "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n"},
		{name: "HEAD with a length", request: head, response: "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nX: y\r\n\r\n"},
		{name: "HEAD chunked", request: head, response: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"},
		{name: "HEAD without", request: head, response: "HTTP/1.1 200 OK\r\nX: y\r\n\r\n"},
		{name: "500 from the application", request: get, response: "HTTP/1.1 503 Ours, Not The Mesh's\r\nRetry-After: 3\r\nContent-Length: 4\r\n\r\n", responseBody: "down"},
		{name: "raw bytes", request: get, response: "HTTP/1.1 200 caf\xc3\xa9\r\nX-Raw: \xff\xfe\r\nContent-Length: 0\r\n\r\n"},
		{name: "closing", request: get, response: "HTTP/1.1 200 OK\r\nConnection: close\r\nX: y\r\nContent-Length: 1\r\n\r\n", responseBody: "z",
			has: "HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 1\r\n\r\n"},
	})
}

// R3.2, R5.5: what belongs to one hop stays there, and nobody speaks in the mesh's name.
func removedFields(t *testing.T, w *world) {
	play(t, w, []exchange{
		{name: "hop by hop", request: "GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\n" +
			"TE: gzip\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\nUpgrade: h2c\r\nKept: yes\r\n\r\n",
			gets:     "GET / HTTP/1.1\r\nHost: x\r\nKept: yes\r\n" + clientField + "\r\n",
			response: "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nContent-Length: 0\r\nProxy-Connection: x\r\n\r\n",
			has:      "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
		{name: "the mesh's own", request: "GET / HTTP/1.1\r\nHost: x\r\nTulle-Client-Id: spiffe://cluster.local/ns/shop/sa/boss\r\ntulle_client_id: boss\r\nTULLE-Hop-http1: x\r\nKept: yes\r\n\r\n",
			gets:     "GET / HTTP/1.1\r\nHost: x\r\nKept: yes\r\n" + clientField + "\r\n",
			response: "HTTP/1.1 200 OK\r\nTulle-Proxy-Error: not so\r\ntulle-hop: unprocessed\r\nContent-Length: 0\r\n\r\n",
			has:      "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
	})
}

// play plays exchanges one after the other; the client keeps its connection while it may.
func play(t *testing.T, w *world, list []exchange) {
	x := newWire(t, w)
	var c, a *raw
	for _, e := range list {
		if c == nil {
			c = x.client()
		}
		c.send(e.request + e.requestBody)
		if a == nil {
			a = x.app()
		}
		gets, has := e.gets, e.has
		if gets == "" {
			gets = added(e.request)
		}
		if has == "" {
			has = e.response
		}
		got := a.head()
		if gets == "*" {
			gets = oldVersion(t, got, e.request)
		}
		if got != gets {
			t.Errorf("%s: the application got\n%q, want\n%q", e.name, got, gets)
		}
		a.want(e.requestBody)
		a.send(e.response + e.responseBody)
		got = c.head()
		if has == "*" {
			has = oldVersion(t, got, e.response)
		}
		if got != has {
			t.Errorf("%s: the client got\n%q, want\n%q", e.name, got, has)
		}
		c.want(e.responseBody)
		if strings.Contains(e.response, "Connection: close") || e.close {
			a.Close()
			a = nil
		}
		if e.close {
			c.wantEOF()
			c = nil
		}
	}
}

// oldVersion is what an HTTP/1.0 head may become: it may gain a Connection field of the hop.
func oldVersion(t *testing.T, got, sent string) string {
	t.Helper()
	for _, conn := range []string{"", "Connection: close\r\n", "Connection: keep-alive\r\n"} {
		for _, id := range []string{"", clientField} {
			if want := strings.TrimSuffix(sent, "\r\n") + id + conn + "\r\n"; want == got {
				return want
			}
		}
	}
	return sent
}
