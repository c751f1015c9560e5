package detect

import (
	"strings"
	"testing"
)

// firstDecided asks for each prefix of b and returns the first final verdict and
// after how many bytes it came. It fails when a later one differs.
func firstDecided(t testing.TB, b []byte, ask func([]byte) Verdict) (Verdict, int) {
	t.Helper()
	at, verdict := -1, More
	for n := 0; n <= len(b); n++ {
		v := ask(b[:n])
		switch {
		case at < 0 && v != More:
			at, verdict = n, v
		case at >= 0 && v != verdict:
			t.Fatalf("%v after %d bytes of %.60q, %v after %d", verdict, at, b, v, n)
		}
	}
	return verdict, at
}

// R2.2: what a client's first bytes say, and no byte too late.
func TestClientInPlaintext(t *testing.T) {
	long := strings.Repeat("x", 40_000)
	for _, tt := range []struct {
		name, in string
		want     Verdict
		at       int // bytes until decided; -1: not
	}{
		{"silence", "", More, -1},
		{"HTTP/2", preface + "\x00\x00", HTTP2, 24},
		{"HTTP/2, dribbled", preface[:23], More, -1},
		{"not quite HTTP/2", "PRI * HTTP/2.0\r\n\r\nXX", HTTP1, 19},
		{"HTTP/1.1", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", HTTP1, 15},
		{"HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", HTTP1, 15},
		{"HTTP/1.9 is answered 505", "GET / HTTP/1.9\r\n", HTTP1, 15},
		{"dribbled", "GET / HTTP/1.1", More, -1},
		{"custom method", "FROBNICATE-2 /x HTTP/1.1\r\n", HTTP1, 25},
		{"absolute form", "GET http://a/b?c HTTP/1.1\r\n", HTTP1, 26},
		{"CONNECT", "CONNECT a:443 HTTP/1.1\r\n", HTTP1, 23},
		{"OPTIONS", "OPTIONS * HTTP/1.1\r\n", HTTP1, 19},
		{"one empty line before (RFC 9112, 2.2)", "\r\nGET / HTTP/1.1\r\n", HTTP1, 17},
		{"many empty lines before", "\r\n\r\n\n\nGET / HTTP/1.1\r\n", HTTP1, 21},
		{"empty lines before something else", "\r\n\r\n*1\r\n", Opaque, 7},
		{"blanks before", " \tGET / HTTP/1.1\r\n", HTTP1, 17},
		{"tabs between", "GET\t/\tHTTP/1.1\r\n", HTTP1, 15},
		{"blanks behind", "GET / HTTP/1.1 \t\r\n", HTTP1, 17},
		{"a control byte in the target", "GET /\x01 HTTP/1.1\r\n", HTTP1, 6},
		{"a control byte in a URL", "GET HtTp://a/\x00", HTTP1, 14},
		{"a control byte where there is no target", "TSH \x00\x00", Opaque, 5},
		{"two digits", "GET / HTTP/1.10\r\n", HTTP1, 16},
		{"a leading zero", "GET / HTTP/01.1\r\n", HTTP1, 16},
		{"bare LF is the parser's to refuse", "GET / HTTP/1.1\n", HTTP1, 15},
		{"a space in the target is the parser's to refuse", "GET /a b HTTP/1.1\r\n", HTTP1, 18},
		{"UTF-8 in the target", "GET /ä HTTP/1.1\r\n", HTTP1, 17},
		{"HTTP/0.9", "GET /\r\n", Opaque, 6},
		{"HTTP/2 without its preface", "GET / HTTP/2.0\r\n", HTTP1, 15},
		{"lower-case version", "GET / http/1.1\r\n", HTTP1, 15},
		{"version in mid-line", "GET / HTTP/1.1 x\r\n", Opaque, 17},
		{"no target", "GET HTTP/1.1\r\n", Opaque, 13},
		{"no digit", "GET / HTTP/1.\r\n", HTTP1, 14},
		{"no version", "GET / HTTP/\r\n", Opaque, 12},
		{"a word that ends so", "GET /xHTTP/1.1\r\n", Opaque, 15},
		{"Redis inline", "GET key\r\n", Opaque, 8},
		{"Redis inline with a path", "GET /etc HTTP\r\n", Opaque, 14},
		{"Redis", "*1\r\n$4\r\nPING\r\n", Opaque, 3},
		{"RTSP", "OPTIONS rtsp://a/b RTSP/1.0\r\n", Opaque, 28},
		{"SIP", "INVITE sip:a@b SIP/2.0\r\n", Opaque, 23},
		{"SSH", "SSH-2.0-OpenSSH\r\n", Opaque, 16},
		{"SMTP", "EHLO a\r\n", Opaque, 7},
		{"memcached", "get a\r\n", Opaque, 6},
		{"MQTT", "\x10\x0c\x00\x04MQTT", Opaque, 1},
		{"PostgreSQL", "\x00\x00\x00\x08\x04\xd2\x16\x2f", Opaque, 1},
		{"AMQP", "AMQP\x00\x00\x09\x01", Opaque, 5},
		{"TLS where none is looked for", "\x16\x03\x01", Opaque, 1},
		{"a method without end", long, Opaque, maxMethod + 1},
		{"a target without end is answered 414", "GET /" + long, HTTP1, 4 + maxLine + 1},
		{"a URL without end is answered 414", "GET http://" + long, HTTP1, 4 + maxLine + 1},
		{"a word without end", "GET " + long, Opaque, 4 + maxLine + 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ask := func(b []byte) Verdict { return Client(b, false) }
			if len(tt.in) > 1000 { // each prefix would take long
				if got := ask([]byte(tt.in)); got != tt.want {
					t.Errorf("%v, want %v", got, tt.want)
				}
				if got := ask([]byte(tt.in)[:tt.at-1]); got != More {
					t.Errorf("%v one byte early", got)
				}
				if got := ask([]byte(tt.in)[:tt.at]); got != tt.want {
					t.Errorf("%v, want %v after %d bytes", got, tt.want, tt.at)
				}
				return
			}
			if got, at := firstDecided(t, []byte(tt.in), ask); got != tt.want || at != tt.at {
				t.Errorf("%v after %d bytes, want %v after %d", got, at, tt.want, tt.at)
			}
		})
	}
}

// R2.5
func TestServer(t *testing.T) {
	frame := func(length, kind, flags, stream byte) string {
		return string([]byte{0, 0, length, kind, flags, 0, 0, 0, stream})
	}
	for _, tt := range []struct {
		name, in string
		want     Verdict
		at       int
	}{
		{"silence", "", More, -1},
		{"SETTINGS, empty", frame(0, 4, 0, 0), HTTP2, 9},
		{"SETTINGS of grpc-go", frame(6, 4, 0, 0) + "\x00\x05\x00\x00\x40\x00", HTTP2, 9},
		{"SETTINGS, unknown flags", frame(18, 4, 0xfe, 0), HTTP2, 9},
		{"SETTINGS, reserved bit", "\x00\x00\x06\x04\x00\x80\x00\x00\x00", HTTP2, 9},
		{"SETTINGS ACK", frame(0, 4, 1, 0), Opaque, 5},
		{"length not a multiple of 6", frame(7, 4, 0, 0), Opaque, 3},
		{"length over a frame's", "\x00\xff\xfc\x04\x00\x00\x00\x00\x00", Opaque, 3},
		{"another frame", frame(6, 6, 0, 0), Opaque, 4},
		{"on a stream", frame(6, 4, 0, 1), Opaque, 9},
		{"half a frame's header", frame(6, 4, 0, 0)[:8], More, -1},
		{"status line", "HTTP/1.1 408 Request Timeout\r\n", HTTP1, 7},
		{"half a status line", "HTTP/", More, -1},
		{"MySQL", "\x4a\x00\x00\x00\x0a8.0.36", Opaque, 1},
		{"SSH", "SSH-2.0-x", Opaque, 1},
		{"SMTP", "220 hello", Opaque, 1},
		{"HELO", "HELO", Opaque, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, at := firstDecided(t, []byte(tt.in), Server); got != tt.want || at != tt.at {
				t.Errorf("%v after %d bytes, want %v after %d", got, at, tt.want, tt.at)
			}
		})
	}
}

func TestDetectionOfHTTPDoesNotAllocate(t *testing.T) {
	in := []byte("GET /some/path?x=y HTTP/1.1\r\nHost: a\r\n\r\n")
	if n := testing.AllocsPerRun(100, func() { Client(in, true) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzClient(f *testing.F) {
	for _, s := range []string{preface, "GET / HTTP/1.1\r\n", "\r\nPUT /x HTTP/1.0\n", "GET key\r\n", "\x16\x03\x01\x00\x05\x01"} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, tls bool) {
		b = b[:min(len(b), 2000)]
		whole := Client(b, tls)
		if got, _ := firstDecided(t, b, func(p []byte) Verdict { return Client(p, tls) }); got != whole {
			t.Errorf("%v in pieces, %v as a whole", got, whole)
		}
	})
}

func FuzzServer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n"))
	f.Add([]byte("\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00\x40\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = b[:min(len(b), 100)]
		whole := Server(b)
		if got, at := firstDecided(t, b, Server); got != whole || at > 9 {
			t.Errorf("%v after %d bytes in pieces, %v as a whole", got, at, whole)
		}
	})
}
