package h1

import "testing"

var acceptedRequests = []conversation{
	{
		name: "R3.1 names' case and order, duplicates and empty values are kept",
		in: lines("GET /a?b=c&d={|}^%zz\xff HTTP/1.1", "aCCEPT: 1", "Host: a.b-c_d.example.:8080", "ACCEPT: 2", "Empty:", "Blank: \t ",
			"Tight:x", "Wide: \t y \tz \t ", "X-Latin: \xe4\x80", "x!#$%&'*+-.^_`|~9: 3"),
		want: `head GET "/a?b=c&d={|}^%zz\xff" origin authority="a.b-c_d.example.:8080" 11 none
  aCCEPT: 1
  Host: a.b-c_d.example.:8080
  ACCEPT: 2
  Empty: 
  Blank: 
  Tight: x
  Wide: y \tz
  X-Latin: \xe4\x80
  x!#$%&'*+-.^_` + "`" + `|~9: 3
end
`,
	},
	{
		name: "R3.4 one empty line before a request is passed over",
		in:   "\r\n" + lines("GET / HTTP/1.1", "Host: a") + "\r\n" + lines("GET /b HTTP/1.1", "Host: a"),
		want: `head GET "/" origin authority="a" 11 none
  Host: a
end
head GET "/b" origin authority="a" 11 none
  Host: a
end
`,
	},
	{
		name: "R3.1 absolute form",
		in: lines("GET HTTP://u.example:80/p?q HTTP/1.1", "Host: u.example:80") +
			lines("GET https://[2001:db8::1]:443?q HTTP/1.1", "Host: [2001:db8::1]:443") + lines("OPTIONS http://u HTTP/1.0"),
		want: `head GET "HTTP://u.example:80/p?q" absolute scheme=http authority="u.example:80" 11 none
  Host: u.example:80
end
head GET "https://[2001:db8::1]:443?q" absolute scheme=https authority="[2001:db8::1]:443" 11 none
  Host: [2001:db8::1]:443
end
head OPTIONS "http://u" absolute scheme=http authority="u" 10 none close
end
`,
	},
	{
		name: "R3.3 CONNECT and what follows it at once",
		in:   lines("CONNECT [::1]:443 HTTP/1.1", "Host: [::1]:443", "Content-Length: 0"),
		want: `head CONNECT "[::1]:443" authority authority="[::1]:443" 11 length length=0
  Host: [::1]:443
  Content-Length: 0
end
`,
	},
	{
		name: "asterisk form, an empty Host, a method of any name",
		in:   lines("OPTIONS * HTTP/1.1", "Host:") + lines("get // HTTP/1.1", "Host: :80") + lines("M-SEARCH /a:b HTTP/1.1", "Host: a:"),
		want: `head OPTIONS "*" asterisk authority="" 11 none
  Host: 
end
head get "//" origin authority=":80" 11 none
  Host: :80
end
head M-SEARCH "/a:b" origin authority="a:" 11 none
  Host: a:
end
`,
	},
	{
		name: "HTTP/1.0 closes unless it keeps alive, HTTP/1.1 keeps alive unless it closes",
		in: lines("GET /1 HTTP/1.0") + lines("GET /2 HTTP/1.0", "Connection: Keep-Alive", "Host: a") +
			lines("GET /3 HTTP/1.0", "Connection: keep-alive, close") + lines("GET /4 HTTP/1.0", "Proxy-Connection: keep-alive") +
			lines("GET /5 HTTP/1.1", "Host: a", "Connection: ,keep-alive ,\t CLOSE") + lines("GET /6 HTTP/1.1", "Host: a", "Connection:") +
			lines("GET /7 HTTP/1.1", "Host: a", "Connection: foo", "Connection: close"),
		want: `head GET "/1" origin authority="" 10 none close
end
head GET "/2" origin authority="a" 10 none
  Host: a
end
head GET "/3" origin authority="" 10 none close
end
head GET "/4" origin authority="" 10 none close
end
head GET "/5" origin authority="a" 11 none close
  Host: a
end
head GET "/6" origin authority="a" 11 none
  Host: a
end
head GET "/7" origin authority="a" 11 none close
  Host: a
end
`,
	},
	{
		name: "R3.2 fields of the hop are removed",
		in: lines("GET / HTTP/1.1", "A: 1", "Host: a", "X-Hop: 2", "Connection: x-hop, keep-alive, te, Y", "Keep-Alive: timeout=5", "Proxy-Connection: close",
			"TE: gzip;q=0.5, Trailers", "y: 3", "X-HOP: 4", "HTTP2-Settings: AAMAAABkAAQ", "X-Hop-2: 5", "Cookie: c", "keep-alive-not: 6"),
		want: `head GET "/" origin authority="a" 11 none
  A: 1
  Host: a
  TE: trailers
  X-Hop-2: 5
  Cookie: c
  keep-alive-not: 6
end
`,
	},
	{
		name: "R3.2 TE goes on as trailers alone",
		in:   lines("GET / HTTP/1.1", "Host: a", "TE: gzip, deflate") + lines("GET / HTTP/1.1", "Host: a", "te: TRAILERS") + lines("GET / HTTP/1.1", "Host: a", "TE: trailers;q=0"),
		want: `head GET "/" origin authority="a" 11 none
  Host: a
end
head GET "/" origin authority="a" 11 none
  Host: a
  te: TRAILERS
end
head GET "/" origin authority="a" 11 none
  Host: a
  TE: trailers
end
`,
	},
	{
		name: "R3.3 Upgrade with any token",
		in: lines("GET / HTTP/1.1", "Host: a", "UPGRADE: websocket", "connection: keep-alive, upgrade") +
			lines("POST / HTTP/1.1", "Upgrade: Foo/2", "Host: a", "Content-Length: 0", "Connection: Upgrade"),
		want: `head GET "/" origin authority="a" 11 none upgrade="websocket"
  Host: a
  UPGRADE: websocket
end
head POST "/" origin authority="a" 11 length length=0 upgrade="Foo/2"
  Upgrade: Foo/2
  Host: a
  Content-Length: 0
end
`,
	},
	{
		name: "R3.2 of a list only h2c is removed",
		in: lines("GET /1 HTTP/1.1", "Host: a", "Upgrade: websocket, H2C", "Connection: Upgrade") +
			lines("GET /2 HTTP/1.1", "Upgrade: h2c,a/1 ,, h2c ;x, b", "Host: a", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAM") +
			lines("GET /3 HTTP/1.1", "Host: a", "Upgrade: , h2c", "Connection: Upgrade"),
		want: `head GET "/1" origin authority="a" 11 none upgrade="websocket"
  Host: a
  Upgrade: websocket
end
head GET "/2" origin authority="a" 11 none upgrade="a/1, b"
  Upgrade: a/1, b
  Host: a
end
head GET "/3" origin authority="a" 11 none
  Host: a
end
`,
	},
	{
		name: "R3.2 Upgrade to h2c, without Connection, twice, empty or in HTTP/1.0 is removed",
		in: lines("GET /1 HTTP/1.1", "Host: a", "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAM") +
			lines("GET /2 HTTP/1.1", "Host: a", "Upgrade: websocket, H2C", "Upgrade: h2c", "Connection: Upgrade") +
			lines("GET /3 HTTP/1.1", "Host: a", "Upgrade: websocket") +
			lines("GET /4 HTTP/1.1", "Host: a", "Upgrade: a", "Upgrade: b", "Connection: upgrade") +
			lines("GET /5 HTTP/1.1", "Host: a", "Upgrade:", "Connection: upgrade") +
			lines("GET /6 HTTP/1.0", "Host: a", "Upgrade: websocket", "Connection: upgrade"),
		want: `head GET "/1" origin authority="a" 11 none
  Host: a
end
head GET "/2" origin authority="a" 11 none
  Host: a
end
head GET "/3" origin authority="a" 11 none
  Host: a
end
head GET "/4" origin authority="a" 11 none
  Host: a
end
head GET "/5" origin authority="a" 11 none
  Host: a
end
head GET "/6" origin authority="a" 10 none close
  Host: a
end
`,
	},
	{
		name: "Expect: 100-continue, but not in HTTP/1.0 nor of the hop",
		in: lines("PUT /1 HTTP/1.1", "Host: a", "Expect: 100-Continue", "Content-Length: 2") + "ab" +
			lines("PUT /2 HTTP/1.0", "Expect: 100-continue", "Content-Length: 2") + "cd" +
			lines("PUT /3 HTTP/1.1", "Host: a", "Expect: else") + lines("PUT /4 HTTP/1.1", "Host: a", "Expect: 100-continue", "Connection: expect"),
		want: `head PUT "/1" origin authority="a" 11 length length=2 expect
  Host: a
  Expect: 100-Continue
  Content-Length: 2
data ab
end
head PUT "/2" origin authority="" 10 length length=2 close
  Expect: 100-continue
  Content-Length: 2
data cd
end
head PUT "/3" origin authority="a" 11 none
  Host: a
  Expect: else
end
head PUT "/4" origin authority="a" 11 none
  Host: a
end
`,
	},
	{
		name: "Content-Length: any method, zero, zeros in front",
		in: lines("GET / HTTP/1.1", "Host: a", "Content-Length: 3") + "abc" + lines("POST / HTTP/1.1", "Host: a", "content-length:0") +
			lines("POST / HTTP/1.1", "Host: a", "Content-Length: \t 0003 ") + "\r\n\x00" + lines("DELETE / HTTP/1.0", "Content-Length: 1") + "x",
		want: `head GET "/" origin authority="a" 11 length length=3
  Host: a
  Content-Length: 3
data abc
end
head POST "/" origin authority="a" 11 length length=0
  Host: a
  content-length: 0
end
head POST "/" origin authority="a" 11 length length=3
  Host: a
  Content-Length: 0003
data \r\n\x00
end
head DELETE "/" origin authority="" 10 length length=1 close
  Content-Length: 1
data x
end
`,
	},
	{
		name: "R3.1 chunked with extensions and trailers",
		in: req("transfer-encoding: Chunked", "Trailer: X-Sum") + "5;a=b;c=\"d\\\"\r\nhello\r\n0006 ;x\r\n world\r\n1\t; y\r\n!\r\n000;last\r\nX-Sum: 1\r\nx-sum:2 \r\nTulle-Client-Id: z\r\n\r\n" +
			req("Transfer-Encoding: chunked") + "0\r\n\r\n" + req("Transfer-Encoding: gzip, CHUNKED") + "A\r\n0123456789\r\n0\r\ntulle_x: 1\r\n\r\n",
		want: `head POST "/" origin authority="a" 11 chunked
  Host: a
  transfer-encoding: Chunked
  Trailer: X-Sum
data hello world!
trailers
  X-Sum: 1
  x-sum: 2
end
head POST "/" origin authority="a" 11 chunked
  Host: a
  Transfer-Encoding: chunked
end
head POST "/" origin authority="a" 11 chunked
  Host: a
  Transfer-Encoding: gzip, CHUNKED
data 0123456789
end
`,
	},
	{
		name: "R3.6 a body cut short", eof: true,
		in: req("Content-Length: 5") + "abcd",
		want: `head POST "/" origin authority="a" 11 length length=5
  Host: a
  Content-Length: 5
data abcd
error 0 message cut short (truncated)
`,
	},
	{
		name: "R3.6 a body of which nothing came", eof: true,
		in: req("Content-Length: 5"),
		want: `head POST "/" origin authority="a" 11 length length=5
  Host: a
  Content-Length: 5
error 0 message cut short (truncated)
`,
	},
	{
		name: "R3.6 a chunked body without its last chunk", eof: true,
		in: chunked("5\r\nhello\r\n"),
		want: `head POST "/" origin authority="a" 11 chunked
  Host: a
  Transfer-Encoding: chunked
data hello
error 0 message cut short (truncated)
`,
	},
	{
		name: "R3.6 a chunked body without its last line", eof: true,
		in: chunked("0\r\nA: b\r\n"),
		want: `head POST "/" origin authority="a" 11 chunked
  Host: a
  Transfer-Encoding: chunked
error 0 message cut short (truncated)
`,
	},
	{name: "R3.6 a head cut short", eof: true, in: "GET / HTTP/1.1\r\nHost: a\r\n", want: "error 0 message cut short (truncated)\n"},
	{name: "nothing at all", eof: true, want: "nothing\n"},
	{
		name: "an end between messages", eof: true,
		in: req("Content-Length: 2") + "ab",
		want: `head POST "/" origin authority="a" 11 length length=2
  Host: a
  Content-Length: 2
data ab
end
nothing
`,
	},
}

func TestRequests(t *testing.T) {
	for _, c := range acceptedRequests {
		t.Run(c.name, func(t *testing.T) { c.check(t) })
	}
}

// R3.3: after CONNECT or an Upgrade, Rest is what the client sent early.
func TestEarlyBytesOfATunnel(t *testing.T) {
	p := NewParser(Server, Limits{}, nil)
	p.Feed([]byte(lines("CONNECT a:1 HTTP/1.1", "Host: a:1") + "early"))
	for _, want := range []Kind{EventHead, EventEnd} {
		if ev, _ := p.Next(); ev.Kind != want {
			t.Fatalf("event %d, want %d", ev.Kind, want)
		}
	}
	if ev, ok := p.Next(); ok {
		t.Fatalf("event %d of another message before NextMessage", ev.Kind)
	}
	if string(p.Rest()) != "early" {
		t.Errorf("rest %q", p.Rest())
	}
	if p.Stash() != 5 || string(p.Rest()) != "early" {
		t.Errorf("stashed rest %q", p.Rest())
	}
	p.Feed([]byte(" and more"))
	if string(p.Rest()) != "early and more" {
		t.Errorf("rest %q", p.Rest())
	}
}

// A message that is complete stays so when the peer half-closes before anybody
// asked for its end.
func TestEOFBeforeTheEndWasTaken(t *testing.T) {
	p := NewParser(Server, Limits{}, nil)
	p.Feed([]byte(lines("GET / HTTP/1.0")))
	p.Next()
	if ev, ok := p.EOF(); !ok || ev.Kind != EventEnd {
		t.Errorf("event %d", ev.Kind)
	}
	if ev, ok := p.EOF(); ok {
		t.Errorf("event %d after the end", ev.Kind)
	}
}
