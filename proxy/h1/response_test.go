package h1

import "testing"

var acceptedResponses = []conversation{
	{
		name: "R3.1 version, reason, case, order and duplicates are kept",
		in: lines("HTTP/1.1 200 Fine, \xe4 thanks ", "set-cookie: a=b", "Server: x", "Set-Cookie: c=d", "CONTENT-LENGTH: 2", "Host: @", "Host: !/") + "ab" +
			lines("HTTP/1.0 404 ", "Connection: keep-alive", "Content-Length: 0") + lines("HTTP/1.1 999", "Content-Length: 0"),
		want: `head 200 "Fine, \xe4 thanks " 11 length length=2
  set-cookie: a=b
  Server: x
  Set-Cookie: c=d
  CONTENT-LENGTH: 2
  Host: @
  Host: !/
data ab
end
head 404 "" 10 length length=0
  Content-Length: 0
end
head 999 "" 11 length length=0
  Content-Length: 0
end
`,
	},
	{
		name: "R3.1 a body until the connection closes", eof: true,
		in: lines("HTTP/1.1 200 OK", "Server: x") + "some\r\nHTTP/1.1 200 OK\r\n\r\n",
		want: `head 200 "OK" 11 eof close
  Server: x
data some\r\nHTTP/1.1 200 OK\r\n\r\n
end
`,
	},
	{
		name: "an empty body until the connection closes", eof: true,
		in: lines("HTTP/1.0 200 OK", "Connection: keep-alive"),
		want: `head 200 "OK" 10 eof close
end
`,
	},
	{
		name: "R3.6 a length cut short", eof: true,
		in: lines("HTTP/1.0 200 OK", "Content-Length: 5") + "abc",
		want: `head 200 "OK" 10 length length=5 close
  Content-Length: 5
data abc
error 0 message cut short (truncated)
`,
	},
	{
		name: "R3.6 a chunk cut short", eof: true,
		in: res("Transfer-Encoding: chunked") + "3\r\nabc",
		want: `head 200 "OK" 11 chunked
  Transfer-Encoding: chunked
data abc
error 0 message cut short (truncated)
`,
	},
	{
		name: "R3.1 chunked with trailers",
		in:   res("Transfer-Encoding: chunked", "Connection: close") + "3\r\nabc\r\n0\r\nGrpc-Status: 0\r\n\r\n",
		want: `head 200 "OK" 11 chunked close
  Transfer-Encoding: chunked
data abc
trailers
  Grpc-Status: 0
end
`,
	},
	{
		name: "R3.1 no body answers HEAD, whatever is announced", exp: []Expect{{Head: true}},
		in: res("Content-Length: 5") + res("Transfer-Encoding: chunked") + res("X: y"),
		want: `head 200 "OK" 11 none length=5
  Content-Length: 5
end
head 200 "OK" 11 none
  Transfer-Encoding: chunked
end
head 200 "OK" 11 none
  X: y
end
`,
	},
	{
		name: "R3.1 204 and 304 have no body",
		in: lines("HTTP/1.1 204 No Content") + lines("HTTP/1.1 204 No Content", "Content-Length: 0") + lines("HTTP/1.1 304 Not Modified", "Content-Length: 5") +
			lines("HTTP/1.1 304 Not Modified", "Transfer-Encoding: chunked"),
		want: `head 204 "No Content" 11 none
end
head 204 "No Content" 11 none length=0
  Content-Length: 0
end
head 304 "Not Modified" 11 none length=5
  Content-Length: 5
end
head 304 "Not Modified" 11 none
  Transfer-Encoding: chunked
end
`,
	},
	{
		name: "R3.1 interim responses",
		in: lines("HTTP/1.1 100 Continue") + lines("HTTP/1.1 103 Early Hints", "Link: </a>", "Connection: close") + lines("HTTP/1.1 102 ", "Content-Length: 0") +
			res("Content-Length: 1") + "x" + lines("HTTP/1.1 100 Continue") + res("Content-Length: 0"),
		want: `info 100 "Continue" 11 none
info 103 "Early Hints" 11 none close
  Link: </a>
info 102 "" 11 none length=0
  Content-Length: 0
head 200 "OK" 11 length length=1
  Content-Length: 1
data x
end
info 100 "Continue" 11 none
head 200 "OK" 11 length length=0
  Content-Length: 0
end
`,
	},
	{
		name: "R3.3 101 answers Upgrade, early bytes are kept", exp: []Expect{{Upgrade: true}},
		in: lines("HTTP/1.1 103 Early Hints") + lines("HTTP/1.1 101 Switching Protocols", "upgrade: websocket", "Connection: Upgrade", "Content-Length: 0", "X: y") + "\x81\x05hello",
		want: `info 103 "Early Hints" 11 none
tunnel 101 "Switching Protocols" 11 none upgrade="websocket"
  upgrade: websocket
  X: y
rest "\x81\x05hello"
`,
	},
	{
		name: "R3.3 an Upgrade that was not taken up", exp: []Expect{{Upgrade: true}, {}, {}},
		in: lines("HTTP/1.1 426 Upgrade Required", "Upgrade: websocket", "Connection: upgrade", "Content-Length: 0") + res("Upgrade: h2,h2c", "Content-Length: 0") +
			res("Upgrade: h2c", "Content-Length: 0"),
		want: `head 426 "Upgrade Required" 11 length length=0
  Upgrade: websocket
  Content-Length: 0
end
head 200 "OK" 11 length length=0
  Upgrade: h2
  Content-Length: 0
end
head 200 "OK" 11 length length=0
  Content-Length: 0
end
`,
	},
	{
		name: "R3.3 2xx answers CONNECT, what it says of a body is dropped", exp: []Expect{{Connect: true}},
		in: lines("HTTP/1.1 100 Continue") + lines("HTTP/1.1 204 Go", "Content-Length: 0", "X: y") + "abc",
		want: `info 100 "Continue" 11 none
tunnel 204 "Go" 11 none
  X: y
rest "abc"
`,
	},
	{
		name: "R3.3 chunked 2xx to CONNECT", exp: []Expect{{Connect: true}}, eof: true,
		in: res("transfer-encoding: chunked") + "5\r\nhello\r\n",
		want: `tunnel 200 "OK" 11 none
nothing
rest "5\r\nhello\r\n"
`,
	},
	{
		name: "R3.3 CONNECT that is denied", exp: []Expect{{Connect: true}, {}},
		in: lines("HTTP/1.1 403 Forbidden", "Content-Length: 2") + "no" + res("Content-Length: 0"),
		want: `head 403 "Forbidden" 11 length length=2
  Content-Length: 2
data no
end
head 200 "OK" 11 length length=0
  Content-Length: 0
end
`,
	},
	{
		name: "R3.2 fields of the hop are removed",
		in:   res("Connection: X-Hop", "X-Hop: 1", "Keep-Alive: timeout=5", "Proxy-Connection: x", "Date: d", "Content-Length: 0"),
		want: `head 200 "OK" 11 length length=0
  Date: d
  Content-Length: 0
end
`,
	},
	{name: "nothing at all", eof: true, want: "nothing\n"},
	{name: "R3.6 a head cut short", eof: true, in: "HTTP/1.1 200 OK\r\nA", want: "error 0 message cut short (truncated)\n"},
}

func TestResponses(t *testing.T) {
	for _, c := range acceptedResponses {
		c.role = Client
		t.Run(c.name, func(t *testing.T) { c.check(t) })
	}
}
