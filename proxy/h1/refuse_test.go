package h1

import (
	"fmt"
	"testing"

	"github.com/tulle-mesh/tulle/proxy/head"
)

// refusal is bytes that must not be read as a message.
type refusal struct {
	rule, name, in string
	status         int
	reason         string
	body           bool // the head is in order, what follows is not
}

// req is a request of HTTP/1.1 with the given field lines.
func req(fields ...string) string {
	return lines(append([]string{"POST / HTTP/1.1", "Host: a"}, fields...)...)
}

// chunked is a request whose chunked body begins with b.
func chunked(b string) string { return req("Transfer-Encoding: chunked") + b }

// The ways in which requests are smuggled: R3.4, and what the http-garden
// project and the bug trackers of other proxies add to it.
var refusedRequests = []refusal{
	// R3.4: Content-Length with Transfer-Encoding.
	{"R3.4", "length and coding", req("Content-Length: 3", "Transfer-Encoding: chunked"), 400, "Content-Length and Transfer-Encoding", false},
	{"R3.4", "coding and length", req("Transfer-Encoding: chunked", "Content-Length: 3"), 400, "Content-Length and Transfer-Encoding", false},
	{"R3.4", "coding and length 0", req("Transfer-Encoding: chunked", "Content-Length: 0"), 400, "Content-Length and Transfer-Encoding", false},

	// R3.4: differing Content-Lengths; we refuse equal ones too.
	{"R3.4", "two lengths", req("Content-Length: 3", "Content-Length: 4"), 400, "two Content-Length fields", false},
	{"R3.4", "two lengths, far apart, in odd case", req("Content-Length: 3", "A: b", "cONTENT-lENGTH: 4"), 400, "two Content-Length fields", false},
	{"R3.4", "two equal lengths", req("Content-Length: 5", "Content-Length: 5"), 400, "two Content-Length fields", false},
	{"R3.4", "a list of lengths", req("Content-Length: 5, 6"), 400, "bad Content-Length", false},
	{"R3.4", "a list of equal lengths", req("Content-Length: 5,5"), 400, "bad Content-Length", false},
	{"R3.4", "length with a plus", req("Content-Length: +5"), 400, "bad Content-Length", false},
	{"R3.4", "negative length", req("Content-Length: -5"), 400, "bad Content-Length", false},
	{"R3.4", "negative zero", req("Content-Length: -0"), 400, "bad Content-Length", false},
	{"R3.4", "hexadecimal length", req("Content-Length: 0x5"), 400, "bad Content-Length", false},
	{"R3.4", "length with a letter", req("Content-Length: 5a"), 400, "bad Content-Length", false},
	{"R3.4", "length with an underscore", req("Content-Length: 1_0"), 400, "bad Content-Length", false},
	{"R3.4", "length with a space within", req("Content-Length: 1 0"), 400, "bad Content-Length", false},
	{"R3.4", "length with a fraction", req("Content-Length: 5.0"), 400, "bad Content-Length", false},
	{"R3.4", "length in quotes", req(`Content-Length: "5"`), 400, "bad Content-Length", false},
	{"R3.4", "empty length", req("Content-Length:"), 400, "bad Content-Length", false},
	{"R3.4", "length of blanks", req("Content-Length: \t "), 400, "bad Content-Length", false},
	{"R3.4", "length beyond 64 bits", req("Content-Length: 18446744073709551617"), 400, "bad Content-Length", false},
	{"R3.4", "length of 2^63", req("Content-Length: 9223372036854775808"), 400, "bad Content-Length", false},
	{"R3.4", "length with a vertical tab", req("Content-Length: 5\v"), 400, "control byte in a field value", false},
	{"R3.4", "length with a form feed", req("Content-Length: \f5"), 400, "control byte in a field value", false},
	{"R3.4", "length in digits that are not ASCII", req("Content-Length: \u0665"), 400, "bad Content-Length", false},

	// R3.4: a Transfer-Encoding whose last coding is not exactly chunked.
	{"R3.4", "xchunked", req("Transfer-Encoding: xchunked"), 400, "Transfer-Encoding does not end in one chunked", false},
	{"R3.4", "chunkedx", req("Transfer-Encoding: chunkedx"), 400, "Transfer-Encoding does not end in one chunked", false},
	{"R3.4", "chunked twice", req("Transfer-Encoding: chunked, chunked"), 400, "Transfer-Encoding does not end in one chunked", false},
	{"R3.4", "chunked in two fields", req("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), 400, "two Transfer-Encoding fields", false},
	{"R3.4", "gzip in one field, chunked in another", req("Transfer-Encoding: gzip", "Transfer-Encoding: chunked"), 400, "Transfer-Encoding does not end in one chunked", false},
	{"R3.4", "chunked, then identity", req("Transfer-Encoding: chunked, identity"), 400, "Transfer-Encoding does not end in one chunked", false},
	{"R3.4", "chunked, then identity in a field", req("Transfer-Encoding: chunked", "Transfer-encoding: identity"), 400, "two Transfer-Encoding fields", false},
	{"R3.4", "identity", req("Transfer-Encoding: identity"), 400, "Transfer-Encoding does not end in one chunked", false},
	{"R3.4", "identity, then chunked", req("Transfer-Encoding: identity, chunked"), 501, "unknown transfer coding", false},
	{"R3.4", "an unknown coding, then chunked", req("Transfer-Encoding: cow, chunked"), 501, "unknown transfer coding", false},
	{"R3.4", "gzip alone", req("Transfer-Encoding: gzip"), 400, "Transfer-Encoding does not end in one chunked", false},
	{"R3.4", "empty coding", req("Transfer-Encoding:"), 400, "Transfer-Encoding does not end in one chunked", false},
	{"R3.4", "comma behind", req("Transfer-Encoding: chunked,"), 400, "Transfer-Encoding does not end in one chunked", false},
	{"R3.4", "comma before", req("Transfer-Encoding: ,chunked"), 400, "Transfer-Encoding does not end in one chunked", false},
	{"R3.4", "comma alone", req("Transfer-Encoding: ,"), 400, "Transfer-Encoding does not end in one chunked", false},
	{"R3.4", "chunked with a parameter", req("Transfer-Encoding: chunked;a=b"), 400, "Transfer-Encoding does not end in one chunked", false},
	{"R3.4", "chunked with a semicolon", req("Transfer-Encoding: chunked;"), 400, "Transfer-Encoding does not end in one chunked", false},
	{"R3.4", "chunked in quotes", req(`Transfer-Encoding: "chunked"`), 400, "Transfer-Encoding does not end in one chunked", false},
	{"R3.4", "two words", req("Transfer-Encoding: gzip chunked"), 400, "Transfer-Encoding does not end in one chunked", false},
	{"R3.4", "vertical tab before chunked", req("Transfer-Encoding: \vchunked"), 400, "control byte in a field value", false},
	{"R3.4", "NUL behind chunked", req("Transfer-Encoding: chunked\x00"), 400, "control byte in a field value", false},
	{"R3.4", "no-break space behind chunked", req("Transfer-Encoding: chunked\xa0"), 400, "Transfer-Encoding does not end in one chunked", false},
	{"R3.4", "chunked in letters that fold to ASCII", req("Transfer-Encoding: chun\u212aed"), 400, "Transfer-Encoding does not end in one chunked", false},
	{"R3.4", "chunked folded", req("Transfer-Encoding:", " chunked"), 400, "Transfer-Encoding does not end in one chunked", false},
	{"R3.4", "coding in HTTP/1.0", lines("POST / HTTP/1.0", "Transfer-Encoding: chunked"), 400, "Transfer-Encoding in HTTP/1.0", false},
	{"R3.4", "coding in HTTP/1.0 that keeps alive", lines("POST / HTTP/1.0", "Host: a", "Connection: keep-alive", "Transfer-Encoding: chunked"), 400, "Transfer-Encoding in HTTP/1.0", false},

	// R3.4: space before the colon, obs-fold, names.
	{"R3.4", "space before the colon", req("Transfer-Encoding : chunked"), 400, "space in a field name", false},
	{"R3.4", "tab before the colon", req("Transfer-Encoding\t: chunked"), 400, "space in a field name", false},
	{"R3.4", "space within a name", req("Transfer Encoding: chunked"), 400, "space in a field name", false},
	{"R3.4", "space before the colon of Host", lines("GET / HTTP/1.1", "Host : a"), 400, "space in a field name", false},
	{"R3.4", "folded line", req("A: b", " c"), 400, "folded field line", false},
	{"R3.4", "line folded by a tab", req("A: b", "\tc"), 400, "folded field line", false},
	{"R3.4", "folded line of blanks", req("A: b", " "), 400, "folded field line", false},
	{"R3.4", "the first line folded", lines("GET / HTTP/1.1", " Host: a"), 400, "folded field line", false},
	{"R3.4", "no name", req(": b"), 400, "field line without a name", false},
	{"R3.4", "no colon", req("Transfer-Encoding"), 400, "field line without a colon", false},
	{"R3.4", "NUL in a name", req("A\x00: b"), 400, "bad byte in a field name", false},
	{"R3.4", "NUL before a name", req("\x00Transfer-Encoding: chunked"), 400, "bad byte in a field name", false},
	{"R3.4", "vertical tab behind a name", req("Transfer-Encoding\v: chunked"), 400, "bad byte in a field name", false},
	{"R3.4", "byte order mark before a name", req("\xef\xbb\xbfA: b"), 400, "bad byte in a field name", false},
	{"R3.4", "separators in a name", req("A(b): c"), 400, "bad byte in a field name", false},
	{"R3.4", "quotes in a name", req(`"A": c`), 400, "bad byte in a field name", false},
	{"R3.4", "a name that is not ASCII", req("\xc4: c"), 400, "bad byte in a field name", false},

	// R3.4: bare LF, bare CR, NUL in a head.
	{"R3.4", "bare LF behind the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", 400, "bare LF in a head", false},
	{"R3.4", "bare LF behind a field", "GET / HTTP/1.1\r\nHost: a\n\r\n", 400, "bare LF in a head", false},
	{"R3.4", "bare LF as the empty line", "GET / HTTP/1.1\r\nHost: a\r\n\n", 400, "bare LF in a head", false},
	{"R3.4", "bare LF in a value", req("A: b\nTransfer-Encoding: chunked"), 400, "bare LF in a head", false},
	{"R3.4", "LF first", "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bare LF in a head", false},
	{"R3.4", "bare CR in a value", req("A: b\rTransfer-Encoding: chunked"), 400, "control byte in a field value", false},
	{"R3.4", "CR at the end of a value", req("A: b\r"), 400, "control byte in a field value", false},
	{"R3.4", "bare CR as a line", req("\rA: b"), 400, "bare CR in a head", false},
	{"R3.4", "CR in the empty line", "GET / HTTP/1.1\r\nHost: a\r\n\r\r\n\r\n", 400, "bare CR in a head", false},
	{"R3.4", "bare CR in a name", req("A\rB: c"), 400, "bad byte in a field name", false},
	{"R3.4", "bare CR in the request line", lines("GET /\rHTTP/1.1", "Host: a"), 400, "bad byte in a request line", false},
	{"R3.4", "CR behind the version", lines("GET / HTTP/1.1\r", "Host: a"), 400, "bad HTTP version", false},
	{"R3.4", "CR before the method", lines("\rGET / HTTP/1.1", "Host: a"), 400, "bad method", false},
	{"R3.4", "NUL in a value", req("A: b\x00c"), 400, "control byte in a field value", false},
	{"R3.4", "escape in a value", req("A: \x1b[2J"), 400, "control byte in a field value", false},
	{"R3.4", "DEL in a value", req("A: b\x7f"), 400, "control byte in a field value", false},
	{"R3.4", "a control byte in the target", lines("GET /\x01 HTTP/1.1", "Host: a"), 400, "bad byte in a request line", false},
	{"R3.4", "NUL in the target", lines("GET /\x00 HTTP/1.1", "Host: a"), 400, "bad byte in a request line", false},
	{"R3.4", "DEL in the target", lines("GET /\x7f HTTP/1.1", "Host: a"), 400, "bad byte in a request line", false},
	{"R3.4", "fragment in the target", lines("GET /a#/../b HTTP/1.1", "Host: a"), 400, "fragment in a request target", false},

	// R3.4: Host.
	{"R3.4", "two Hosts", req("Host: b"), 400, "two Host fields", false},
	{"R3.4", "two equal Hosts", req("hOST: a"), 400, "two Host fields", false},
	{"R3.4", "no Host", lines("GET / HTTP/1.1"), 400, "no Host", false},
	{"R3.4", "no Host with an absolute form", lines("GET http://a/ HTTP/1.1", "X: y"), 400, "no Host", false},
	{"R3.4", "another Host than the target's", lines("GET http://a/ HTTP/1.1", "Host: b"), 400, "Host is not that of the request target", false},
	{"R3.4", "another port than the target's", lines("GET http://a/ HTTP/1.1", "Host: a:8080"), 400, "Host is not that of the request target", false},
	{"R3.4", "another scheme's port than the target's", lines("GET https://a/ HTTP/1.1", "Host: a:80"), 400, "Host is not that of the request target", false},
	{"R3.4", "an empty Host beside the target's", lines("GET http://a/ HTTP/1.1", "Host:"), 400, "Host is not that of the request target", false},
	{"R3.4", "another Host than the target's in HTTP/1.0", lines("GET http://a/ HTTP/1.0", "Host: b"), 400, "Host is not that of the request target", false},
	{"R3.4", "user in Host", lines("GET / HTTP/1.1", "Host: a@b"), 400, "bad Host", false},
	{"R3.4", "path in Host", lines("GET / HTTP/1.1", "Host: a/b"), 400, "bad Host", false},
	{"R3.4", "backslash in Host", lines("GET / HTTP/1.1", `Host: a\b`), 400, "bad Host", false},
	{"R3.4", "space in Host", lines("GET / HTTP/1.1", "Host: a b"), 400, "bad Host", false},
	{"R3.4", "two ports in Host", lines("GET / HTTP/1.1", "Host: a:1:2"), 400, "bad Host", false},
	{"R3.4", "letters for a port in Host", lines("GET / HTTP/1.1", "Host: a:b"), 400, "bad Host", false},
	{"R3.4", "port of six digits in Host", lines("GET / HTTP/1.1", "Host: a:655360"), 400, "bad Host", false},
	{"R3.4", "open bracket in Host", lines("GET / HTTP/1.1", "Host: [::1"), 400, "bad Host", false},
	{"R3.4", "name behind a bracket in Host", lines("GET / HTTP/1.1", "Host: [::1]a"), 400, "bad Host", false},
	{"R3.4", "escape in Host", lines("GET / HTTP/1.1", "Host: a%2e"), 400, "bad Host", false},
	{"R3.4", "zone in Host", lines("GET / HTTP/1.1", "Host: [fe80::1%25eth0]"), 400, "bad Host", false},
	{"R3.4", "name in brackets in Host", lines("GET / HTTP/1.1", "Host: [abc]"), 400, "bad Host", false},
	{"R3.4", "IPv4 in brackets in Host", lines("GET / HTTP/1.1", "Host: [1.2.3.4]"), 400, "bad Host", false},
	{"R3.4", "too many groups in Host", lines("GET / HTTP/1.1", "Host: [1:2:3:4:5:6:7:8:9]"), 400, "bad Host", false},
	{"R3.4", "closing bracket alone in Host", lines("GET / HTTP/1.1", "Host: ]"), 400, "bad Host", false},
	{"R3.4", "empty brackets in Host", lines("GET / HTTP/1.1", "Host: []"), 400, "bad Host", false},
	{"R3.4", "bracket within Host", lines("GET / HTTP/1.1", "Host: a[::1]"), 400, "bad Host", false},

	// The request line.
	{"R3.4", "no version", lines("GET /", "Host: a"), 400, "bad byte in a request line", false},
	{"R3.4", "HTTP/0.9", "GET /\r\n\r\n", 400, "bad byte in a request line", false},
	{"R3.4", "no target", lines("GET HTTP/1.1", "Host: a"), 400, "bad byte in a request line", false},
	{"R3.4", "empty target", lines("GET  HTTP/1.1", "Host: a"), 400, "bad byte in a request line", false},
	{"R3.4", "two spaces before the version", lines("GET /  HTTP/1.1", "Host: a"), 400, "bad HTTP version", false},
	{"R3.4", "two spaces before the target", lines("GET  / HTTP/1.1", "Host: a"), 400, "bad byte in a request line", false},
	{"R3.4", "tab for a space", lines("GET\t/ HTTP/1.1", "Host: a"), 400, "bad method", false},
	{"R3.4", "tab before the version", lines("GET /\tHTTP/1.1", "Host: a"), 400, "bad byte in a request line", false},
	{"R3.4", "form feed for a space", lines("GET\f/ HTTP/1.1", "Host: a"), 400, "bad method", false},
	{"R3.4", "space within the target", lines("GET /a b HTTP/1.1", "Host: a"), 400, "bad HTTP version", false},
	{"R3.4", "two request lines in one", lines("GET / HTTP/1.1 GET /b HTTP/1.1", "Host: a"), 400, "bad HTTP version", false},
	{"R3.4", "space before the method", lines(" GET / HTTP/1.1", "Host: a"), 400, "bad method", false},
	{"R3.4", "space behind the version", lines("GET / HTTP/1.1 ", "Host: a"), 400, "bad HTTP version", false},
	{"R3.4", "a method that is no token", lines("G@T / HTTP/1.1", "Host: a"), 400, "bad method", false},
	{"R3.4", "a method in quotes", lines(`"GET" / HTTP/1.1`, "Host: a"), 400, "bad method", false},
	{"R3.4", "HTTP/2.0", lines("GET / HTTP/2.0", "Host: a"), 505, "HTTP version not supported", false},
	{"R3.4", "the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "HTTP version not supported", false},
	{"R3.4", "HTTP/1.2", lines("GET / HTTP/1.2", "Host: a"), 505, "HTTP version not supported", false},
	{"R3.4", "HTTP/1.9", lines("GET / HTTP/1.9", "Host: a"), 505, "HTTP version not supported", false},
	{"R3.4", "HTTP/0.9 in a version", lines("GET / HTTP/0.9", "Host: a"), 505, "HTTP version not supported", false},
	{"R3.4", "HTTP/1.10", lines("GET / HTTP/1.10", "Host: a"), 400, "bad HTTP version", false},
	{"R3.4", "HTTP/01.1", lines("GET / HTTP/01.1", "Host: a"), 400, "bad HTTP version", false},
	{"R3.4", "HTTP/1.", lines("GET / HTTP/1.", "Host: a"), 400, "bad HTTP version", false},
	{"R3.4", "HTTP/1", lines("GET / HTTP/1", "Host: a"), 400, "bad HTTP version", false},
	{"R3.4", "http/1.1", lines("GET / http/1.1", "Host: a"), 400, "bad HTTP version", false},
	{"R3.4", "another protocol", lines("DESCRIBE rtsp://a/ RTSP/1.0", "CSeq: 2"), 400, "bad HTTP version", false},
	{"R3.4", "two empty lines first", "\r\n\r\n" + req(), 400, "empty line where a message should begin", false},
	{"R3.4", "TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "bad method", false},

	// The target.
	{"R3.3", "a target without a slash", lines("GET a HTTP/1.1", "Host: a"), 400, "bad request target", false},
	{"R3.3", "authority form without CONNECT", lines("GET a:80 HTTP/1.1", "Host: a"), 400, "bad request target", false},
	{"R3.3", "asterisk without OPTIONS", lines("GET * HTTP/1.1", "Host: a"), 400, "* is the target of OPTIONS alone", false},
	{"R3.3", "two asterisks", lines("OPTIONS ** HTTP/1.1", "Host: a"), 400, "bad request target", false},
	{"R3.3", "a query alone", lines("GET ?a HTTP/1.1", "Host: a"), 400, "bad request target", false},
	{"R3.4", "another scheme", lines("GET file:///etc/passwd HTTP/1.1", "Host: a"), 400, "bad scheme in a request target", false},
	{"R3.4", "user in the target", lines("GET http://u:p@a/ HTTP/1.1", "Host: a"), 400, "bad authority", false},
	{"R3.4", "no authority", lines("GET http:///a HTTP/1.1", "Host: a"), 400, "bad authority", false},
	{"R3.4", "backslash in the authority", lines(`GET http://a\b/ HTTP/1.1`, "Host: a"), 400, "bad authority", false},
	{"R3.4", "one slash", lines("GET http:/a HTTP/1.1", "Host: a"), 400, "bad request target", false},
	{"R3.3", "CONNECT with a path", lines("CONNECT / HTTP/1.1", "Host: a"), 400, "CONNECT without host:port, or in HTTP/1.0", false},
	{"R3.3", "CONNECT without a port", lines("CONNECT a HTTP/1.1", "Host: a"), 400, "CONNECT without host:port, or in HTTP/1.0", false},
	{"R3.3", "CONNECT with an empty port", lines("CONNECT a: HTTP/1.1", "Host: a"), 400, "CONNECT without host:port, or in HTTP/1.0", false},
	{"R3.3", "CONNECT without a host", lines("CONNECT :80 HTTP/1.1", "Host: a"), 400, "CONNECT without host:port, or in HTTP/1.0", false},
	{"R3.3", "CONNECT with a user", lines("CONNECT u@a:80 HTTP/1.1", "Host: a"), 400, "CONNECT without host:port, or in HTTP/1.0", false},
	{"R3.3", "CONNECT with an absolute form", lines("CONNECT http://a:80/ HTTP/1.1", "Host: a"), 400, "CONNECT without host:port, or in HTTP/1.0", false},
	{"R3.3", "CONNECT in HTTP/1.0", lines("CONNECT a:80 HTTP/1.0", "Host: a"), 400, "CONNECT without host:port, or in HTTP/1.0", false},
	{"R3.3", "CONNECT with a length", lines("CONNECT a:80 HTTP/1.1", "Host: a:80", "Content-Length: 4"), 400, "CONNECT with a body", false},
	{"R3.3", "CONNECT with a coding", lines("CONNECT a:80 HTTP/1.1", "Host: a:80", "Transfer-Encoding: chunked"), 400, "CONNECT with a body", false},

	// R3.2: what Connection may not name.
	{"R3.2", "Connection: Host", req("Connection: Host"), 400, "Connection names a field that is not of one hop", false},
	{"R3.2", "Connection: Content-Length", req("Connection: close, Content-Length"), 400, "Connection names a field that is not of one hop", false},
	{"R3.2", "Connection: Transfer-Encoding", req("Connection: Transfer-Encoding"), 400, "Connection names a field that is not of one hop", false},
	{"R3.2", "Connection: cookie", req("Connection: cookie"), 400, "Connection names a field that is not of one hop", false},
	{"R3.2", "Connection: authorization", req("Connection: a,AUTHORIZATION ,b"), 400, "Connection names a field that is not of one hop", false},
	{"R3.2", "Connection: tulle-client-id", req("Connection: tulle-client-id"), 400, "Connection names a field that is not of one hop", false},
	{"R3.2", "Connection: Tulle_X", req("Connection: Tulle_X"), 400, "Connection names a field that is not of one hop", false},
	{"R3.2", "Connection in a second field", req("Connection: close", "Connection: Host"), 400, "Connection names a field that is not of one hop", false},
	{"R3.2", "Connection with nine names", req("Connection: a,b,c,d,e,f,g,h,i"), 400, "Connection names too many fields", false},
	{"R3.2", "Connection that is no list", req("Connection: close;a"), 400, "bad Connection", false},

	// R3.4: chunks.
	{"R3.4", "bare LF behind a chunk size", chunked("3\nabc\r\n0\r\n\r\n"), 400, "bare LF in a chunk size", true},
	{"R3.4", "bare LF for a chunk size", chunked("\n"), 400, "bare LF in a chunk size", true},
	{"R3.4", "bare CR in a chunk size", chunked("3\r\r\nabc\r\n"), 400, "bad byte after a chunk size", true},
	{"R3.4", "bare LF in a chunk extension", chunked("3;a\nabc\r\n0\r\n\r\n"), 400, "bare LF in a chunk size", true},
	{"R3.4", "bare CR in a chunk extension", chunked("3;a\rb\r\nabc\r\n"), 400, "control byte in a chunk extension", true},
	{"R3.4", "NUL in a chunk extension", chunked("3;a\x00\r\nabc\r\n"), 400, "control byte in a chunk extension", true},
	{"R3.4", "NUL behind a chunk size", chunked("3\x00\r\nabc\r\n"), 400, "bad byte after a chunk size", true},
	{"R3.4", "chunk size of 16 digits", chunked("8000000000000000\r\n"), 400, "chunk size overflows", true},
	{"R3.4", "chunk size of 2^64+3", chunked("10000000000000003\r\nabc\r\n"), 400, "chunk size overflows", true},
	{"R3.4", "chunk size of many zeros", chunked("0000000000000003\r\nabc\r\n"), 400, "chunk size overflows", true},
	{"R3.4", "chunk size of 32 bits and more digits", chunked("fffffffffffffffff\r\n"), 400, "chunk size overflows", true},
	{"R3.4", "chunk size with 0x", chunked("0x3\r\nabc\r\n"), 400, "bad byte after a chunk size", true},
	{"R3.4", "chunk size with a plus", chunked("+3\r\nabc\r\n"), 400, "chunk without a size", true},
	{"R3.4", "negative chunk size", chunked("-3\r\nabc\r\n"), 400, "chunk without a size", true},
	{"R3.4", "chunk size with an underscore", chunked("1_0\r\n"), 400, "bad byte after a chunk size", true},
	{"R3.4", "space before a chunk size", chunked(" 3\r\nabc\r\n"), 400, "chunk without a size", true},
	{"R3.4", "space behind a chunk size", chunked("3 \r\nabc\r\n"), 400, "bad byte after a chunk size", true},
	{"R3.4", "tab behind a chunk size", chunked("3\t\r\nabc\r\n"), 400, "bad byte after a chunk size", true},
	{"R3.4", "extension without a semicolon", chunked("3 a=b\r\nabc\r\n"), 400, "bad byte after a chunk size", true},
	{"R3.4", "letter behind a chunk size", chunked("3g\r\nabc\r\n"), 400, "bad byte after a chunk size", true},
	{"R3.4", "empty chunk size", chunked("\r\n0\r\n\r\n"), 400, "chunk without a size", true},
	{"R3.4", "extension without a size", chunked(";a\r\n"), 400, "chunk without a size", true},
	{"R3.4", "chunk longer than its size", chunked("3\r\nabcd\r\n"), 400, "chunk longer than its size", true},
	{"R3.4", "bare LF behind a chunk", chunked("3\r\nabc\n0\r\n\r\n"), 400, "chunk longer than its size", true},
	{"R3.4", "bare CR behind a chunk", chunked("3\r\nabc\r0\r\n\r\n"), 400, "chunk longer than its size", true},
	{"R3.4", "nothing behind a chunk", chunked("3\r\nabc0\r\n\r\n"), 400, "chunk longer than its size", true},
	{"R3.4", "bare LF behind the last chunk", chunked("0\n\r\n"), 400, "bare LF in a chunk size", true},
	{"R3.4", "bare LF for the end", chunked("0\r\n\n"), 400, "bare LF in a head", true},
	{"R3.4", "bare CR for the end", chunked("0\r\n\rX\r\n\r\n"), 400, "bare CR in a head", true},
	{"R3.4", "bare LF in a trailer", chunked("0\r\nA: b\nC: d\r\n\r\n"), 400, "bare LF in a head", true},
	{"R3.4", "folded trailer", chunked("0\r\nA: b\r\n c\r\n\r\n"), 400, "folded field line", true},
	{"R3.4", "trailer without a colon", chunked("0\r\nabc\r\n\r\n"), 400, "field line without a colon", true},
	{"R3.4", "a request for a trailer", chunked("0\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n"), 400, "space in a field name", true},
	{"R3.4", "space before the colon of a trailer", chunked("0\r\nA : b\r\n\r\n"), 400, "space in a field name", true},
	{"R3.4", "NUL in a trailer", chunked("0\r\nA: \x00\r\n\r\n"), 400, "control byte in a field value", true},
	{"R3.4", "Content-Length for a trailer", chunked("0\r\nContent-Length: 5\r\n\r\n"), 400, "a trailer that may not be one", true},
	{"R3.4", "Transfer-Encoding for a trailer", chunked("0\r\nTRANSFER-ENCODING: chunked\r\n\r\n"), 400, "a trailer that may not be one", true},
	{"R3.4", "Host for a trailer", chunked("0\r\nA: b\r\nhost: b\r\n\r\n"), 400, "a trailer that may not be one", true},
	{"R3.4", "Connection for a trailer", chunked("0\r\nConnection: close\r\n\r\n"), 400, "a trailer that may not be one", true},
	{"R3.4", "Upgrade for a trailer", chunked("0\r\nUpgrade: h2c\r\n\r\n"), 400, "a trailer that may not be one", true},
	{"R3.4", "Authorization for a trailer", chunked("0\r\nAuthorization: x\r\n\r\n"), 400, "a trailer that may not be one", true},
	{"R3.4", "Cookie for a trailer", chunked("0\r\ncookie: x\r\n\r\n"), 400, "a trailer that may not be one", true},
}

func TestRefusedRequests(t *testing.T) {
	for _, r := range refusedRequests {
		t.Run(r.rule+" "+r.name, func(t *testing.T) {
			c := conversation{in: r.in}
			want := fmt.Sprintf("error %d %s\n", r.status, r.reason)
			if got := lastLine(c.read(t)); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			c.check(t)
			var h head.Head
			n, err := ParseRequest([]byte(r.in), Limits{}, &h)
			switch {
			case r.body && (n == 0 || err != nil):
				t.Errorf("ParseRequest: %d, %v of a head in order", n, err)
			case !r.body && (n != 0 || err == nil || err.Status != r.status || err.Reason != r.reason):
				t.Errorf("ParseRequest: %d, %v", n, err)
			}
		})
	}
}

// res is a response of HTTP/1.1 with the given field lines.
func res(fields ...string) string {
	return lines(append([]string{"HTTP/1.1 200 OK"}, fields...)...)
}

// Responses are read as strictly: what a proxy and a client read unlike is a way
// to put an answer before another request.
var refusedResponses = []refusal{
	{"R3.4", "length and coding", res("Content-Length: 3", "Transfer-Encoding: chunked"), 502, "Content-Length and Transfer-Encoding", false},
	{"R3.4", "two lengths", res("Content-Length: 3", "Content-Length: 3"), 502, "two Content-Length fields", false},
	{"R3.4", "a list of lengths", res("Content-Length: 3, 3"), 502, "bad Content-Length", false},
	{"R3.4", "coding in HTTP/1.0", lines("HTTP/1.0 200 OK", "Transfer-Encoding: chunked"), 502, "Transfer-Encoding in HTTP/1.0", false},
	{"R3.4", "xchunked", res("Transfer-Encoding: xchunked"), 502, "Transfer-Encoding does not end in one chunked", false},
	{"R3.4", "unknown coding", res("Transfer-Encoding: cow, chunked"), 502, "unknown transfer coding", false},
	{"R3.4", "space before the colon", res("Content-Length : 3"), 502, "space in a field name", false},
	{"R3.4", "folded line", res("A: b", " c"), 502, "folded field line", false},
	{"R3.4", "bare LF behind the status line", "HTTP/1.1 200 OK\nA: b\r\n\r\n", 502, "bare LF in a head", false},
	{"R3.4", "bare CR in a value", res("A: b\rc"), 502, "control byte in a field value", false},
	{"R3.4", "bare CR in the reason", lines("HTTP/1.1 200 O\rK"), 502, "control byte in a reason phrase", false},
	{"R3.4", "NUL in the reason", lines("HTTP/1.1 200 O\x00K"), 502, "control byte in a reason phrase", false},
	{"R3.4", "empty line first", "\r\n" + res(), 502, "empty line where a message should begin", false},
	{"R3.4", "HTTP/2", lines("HTTP/2 200"), 502, "bad status line", false},
	{"R3.4", "HTTP/2.0", lines("HTTP/2.0 200 OK"), 502, "HTTP version not supported", false},
	{"R3.4", "http/1.1", lines("http/1.1 200 OK"), 502, "bad HTTP version", false},
	{"R3.4", "ICY", lines("ICY 200 OK"), 502, "bad status line", false},
	{"R3.4", "two spaces", lines("HTTP/1.1  200 OK"), 502, "bad status line", false},
	{"R3.4", "status of two digits", lines("HTTP/1.1 20 OK"), 502, "bad status line", false},
	{"R3.4", "status of four digits", lines("HTTP/1.1 2000 OK"), 502, "bad status line", false},
	{"R3.4", "status under 100", lines("HTTP/1.1 099 OK"), 502, "bad status", false},
	{"R3.4", "negative status", lines("HTTP/1.1 -20 OK"), 502, "bad status", false},
	{"R3.4", "tab behind the status", lines("HTTP/1.1 200\tOK"), 502, "bad status line", false},
	{"R3.4", "short status line", lines("HTTP/1.1 "), 502, "bad status line", false},
	{"R3.4", "204 with a coding", lines("HTTP/1.1 204 No Content", "Transfer-Encoding: chunked"), 502, "body announced where there is none", false},
	{"R3.4", "204 with a length", lines("HTTP/1.1 204 No Content", "Content-Length: 3"), 502, "body announced where there is none", false},
	{"R3.4", "100 with a coding", lines("HTTP/1.1 100 Continue", "Transfer-Encoding: chunked"), 502, "body announced where there is none", false},
	{"R3.4", "103 with a length", lines("HTTP/1.1 103 Early Hints", "Content-Length: 3"), 502, "body announced where there is none", false},
	{"R3.2", "Connection: Content-Length", res("Connection: Content-Length", "Content-Length: 3"), 502, "Connection names a field that is not of one hop", false},
	{"R3.3", "101 that nobody asked for", lines("HTTP/1.1 101 Switching Protocols", "Upgrade: websocket"), 502, "101 that nobody asked for", true},
	{"R3.2", "101 to h2c", lines("HTTP/1.1 101 Switching Protocols", "Upgrade: h2c"), 502, "switch to a protocol that was not offered", false},
	{"R3.4", "chunk size overflows", res("Transfer-Encoding: chunked") + "ffffffffffffffff\r\n", 502, "chunk size overflows", true},
	{"R3.4", "bare LF in a chunk size", res("Transfer-Encoding: chunked") + "3\nabc\r\n0\r\n\r\n", 502, "bare LF in a chunk size", true},
	{"R3.4", "Content-Length for a trailer", res("Transfer-Encoding: chunked") + "0\r\nContent-Length: 3\r\n\r\n", 502, "a trailer that may not be one", true},
	{"R3.4", "Set-Cookie for a trailer", res("Transfer-Encoding: chunked") + "0\r\nset-cookie: a=b\r\n\r\n", 502, "a trailer that may not be one", true},
}

func TestRefusedResponses(t *testing.T) {
	for _, r := range refusedResponses {
		t.Run(r.rule+" "+r.name, func(t *testing.T) {
			c := conversation{role: Client, in: r.in}
			want := fmt.Sprintf("error %d %s\n", r.status, r.reason)
			if got := lastLine(c.read(t)); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			c.check(t)
			var h head.Head
			n, err := ParseResponse([]byte(r.in), Limits{}, &h)
			switch {
			case r.body && (n == 0 || err != nil):
				t.Errorf("ParseResponse: %d, %v of a head in order", n, err)
			case !r.body && (n != 0 || err == nil || err.Status != r.status || err.Reason != r.reason):
				t.Errorf("ParseResponse: %d, %v", n, err)
			}
		})
	}
}

func lastLine(s string) string {
	for i := len(s) - 2; i >= 0; i-- {
		if s[i] == '\n' {
			return s[i+1:]
		}
	}
	return s
}
