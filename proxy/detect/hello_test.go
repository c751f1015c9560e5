package detect

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"slices"
	"testing"
)

// realHello is what crypto/tls sends.
func realHello(t testing.TB, alpn []string, sni string) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = tls.Client(theirs, &tls.Config{NextProtos: alpn, ServerName: sni, InsecureSkipVerify: true}).HandshakeContext(ctx)
		_ = theirs.Close()
	}()
	header := make([]byte, recordHeader)
	if _, err := io.ReadFull(ours, header); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, int(header[3])<<8|int(header[4]))
	if _, err := io.ReadFull(ours, body); err != nil {
		t.Fatal(err)
	}
	_ = ours.Close()
	<-done
	return append(header, body...)
}

// records wraps a handshake message into records of at most size bytes.
func records(msg []byte, size int) []byte {
	var out []byte
	for part := range slices.Chunk(msg, size) {
		out = append(out, typeHandshake, 3, 1, byte(len(part)>>8), byte(len(part)))
		out = append(out, part...)
	}
	return out
}

type extension struct {
	id   uint16
	body []byte
}

func vec16(b []byte) []byte { return append([]byte{byte(len(b) >> 8), byte(len(b))}, b...) }
func vec8(b []byte) []byte  { return append([]byte{byte(len(b))}, b...) }

func alpnExtension(names ...string) extension {
	var list []byte
	for _, n := range names {
		list = append(list, vec8([]byte(n))...)
	}
	return extension{extALPN, vec16(list)}
}

// hello builds a ClientHello message.
func hello(exts ...extension) []byte {
	body := append([]byte{3, 3}, make([]byte, 32)...)
	body = append(body, vec8(make([]byte, 32))...)
	body = append(body, vec16([]byte{0x1a, 0x1a, 0x13, 0x01})...)
	body = append(body, vec8([]byte{0})...)
	var list []byte
	for _, e := range exts {
		list = append(list, byte(e.id>>8), byte(e.id))
		list = append(list, vec16(e.body)...)
	}
	body = append(body, vec16(list)...)
	return append([]byte{typeClientHello, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
}

// R2.1
func TestClientHelloOfCryptoTLS(t *testing.T) {
	for _, tt := range []struct {
		alpn []string
		sni  string
		want Verdict
	}{
		{[]string{"tulle/h2.1"}, "", Mesh},
		{[]string{"tulle/tcp.1", "tulle/h2.1"}, "", Mesh},
		{[]string{"h2", "http/1.1"}, "shop.example", TLS},
		{nil, "shop.example", TLS},
	} {
		b := realHello(t, tt.alpn, tt.sni)
		v, at := firstDecided(t, b, func(p []byte) Verdict { return Client(p, true) })
		if v != tt.want || at != len(b) {
			t.Errorf("%v: %v after %d of %d bytes, want %v", tt.alpn, v, at, len(b), tt.want)
		}
		h, _ := ClientHello(append(b, "what follows"...))
		if !slices.Equal(h.ALPN, tt.alpn) || h.SNI != tt.sni {
			t.Errorf("%q %q, want %q %q", h.ALPN, h.SNI, tt.alpn, tt.sni)
		}
	}
}

// R2.1: a hello over several records says what it says in one.
func TestClientHelloOverRecords(t *testing.T) {
	msg := realHello(t, []string{"tulle/h2.1"}, "shop.example")[recordHeader:]
	for _, size := range []int{1, 2, 3, 4, 5, 100, 512, len(msg) - 1, len(msg)} {
		wire := records(msg, size)
		h, v := ClientHello(wire)
		if len(wire) > 0 && (len(msg)+size-1)/size > maxRecords {
			if v != TLS {
				t.Errorf("in crumbs of %d: %v, want %v", size, v, TLS)
			}
			continue
		}
		if v != Mesh || h.SNI != "shop.example" {
			t.Errorf("records of %d: %v, %q", size, v, h.SNI)
		}
		if v, at := firstDecided(t, wire, func(p []byte) Verdict { return Client(p, true) }); v != Mesh || at != len(wire) {
			t.Errorf("records of %d: %v after %d of %d", size, v, at, len(wire))
		}
	}
}

func TestClientHelloByHand(t *testing.T) {
	grease := extension{0x3a3a, []byte{0}}
	ech := extension{0xfe0d, bytes.Repeat([]byte{7}, 200)}
	name := extension{extServerName, vec16(append([]byte{0}, vec16([]byte("outer.example"))...))}
	mesh := alpnExtension("\x8a\x8a", "h2", "tulle/h2.9")
	whole := records(hello(grease, ech, name, mesh), maxPlaintext)
	edit := func(at int, to byte) []byte {
		b := bytes.Clone(whole)
		b[at] = to
		return b
	}
	for _, tt := range []struct {
		name string
		in   []byte
		want Verdict
	}{
		{"GREASE and ECH", whole, Mesh},
		{"a later protocol version of Tulle's", records(hello(alpnExtension("tulle/h3.1")), maxPlaintext), Mesh},
		{"near miss", records(hello(alpnExtension("tulle", "xtulle/h2.1", "Tulle/h2.1")), maxPlaintext), TLS},
		{"no extensions", records(hello(), maxPlaintext), TLS},
		{"an empty protocol name", records(hello(alpnExtension("tulle/h2.1", "")), maxPlaintext), TLS},
		{"a list longer than its extension", records(hello(extension{extALPN, []byte{0, 9, 2, 'h', '2'}}), maxPlaintext), TLS},
		{"bytes behind the list", records(hello(extension{extALPN, append(alpnExtension("tulle/h2.1").body, 0)}), maxPlaintext), TLS},
		{"record of a future version", edit(2, 4), Mesh},
		{"no handshake record", edit(0, 23), Opaque},
		{"another major version", edit(1, 2), Opaque},
		{"another minor version", edit(2, 5), Opaque},
		{"another handshake message", edit(5, 2), Opaque},
		{"an empty record", []byte{22, 3, 1, 0, 0}, Opaque},
		{"a record over the limit", []byte{22, 3, 1, 0x40, 1}, Opaque},
		{"a hello over the limit", []byte{22, 3, 1, 0x40, 0, 1, 1, 0, 0}, TLS},
		{"an alert amid the hello", append(records(hello(mesh)[:20], 20), 21, 3, 1, 0, 2, 1, 0), TLS},
		{"an empty record amid the hello", append(records(hello(mesh)[:20], 20), 22, 3, 1, 0, 0), TLS},
		{"SSLv2", []byte{0x80, 0x2e, 1, 3, 1}, Opaque},
		{"the first byte alone", whole[:1], More},
		{"nothing", nil, More},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, _ := firstDecided(t, tt.in, func(p []byte) Verdict { _, v := ClientHello(p); return v }); got != tt.want {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

// With MaxBytes there is always a verdict.
func TestVerdictIsBounded(t *testing.T) {
	big := hello(extension{0x1234, make([]byte, 60_000)}, alpnExtension("tulle/h2.1"))
	wire := records(big, 1000)
	if _, v := ClientHello(wire); v != Mesh {
		t.Errorf("a hello just within the limit: %v", v)
	}
	big = hello(extension{0x1234, make([]byte, 65_300)}, alpnExtension("tulle/h2.1"))
	wire = records(big, 1000)
	if _, v := ClientHello(wire[:MaxBytes-1]); v != More {
		t.Errorf("before the limit: %v", v)
	}
	for _, n := range []int{MaxBytes, MaxBytes + 1, len(wire)} {
		if _, v := ClientHello(wire[:min(n, len(wire))]); v != TLS {
			t.Errorf("at %d bytes: %v", n, v)
		}
	}
}

func FuzzClientHello(f *testing.F) {
	f.Add(hello(extension{0x3a3a, []byte{0}}, alpnExtension("tulle/h2.1")), uint16(7), true)
	f.Add(hello(extension{extServerName, vec16(append([]byte{0}, vec16([]byte("a.b"))...))}), uint16(100), true)
	f.Add(realHello(f, []string{"h2"}, "x.y"), uint16(0), false)
	f.Fuzz(func(t *testing.T, b []byte, size uint16, wrap bool) {
		b = b[:min(len(b), 4000)]
		if !wrap {
			_, whole := ClientHello(b)
			for n := 0; n < len(b); n += 1 + n/16 {
				if _, v := ClientHello(b[:n]); v != More && v != whole {
					t.Errorf("%v after %d bytes, %v as a whole", v, n, whole)
				}
			}
			return
		}
		// the same message in one record and in several
		cut := int(size)%1000 + len(b)/maxRecords + 1
		if len(b) == 0 || b[0] != typeClientHello {
			return
		}
		h1, v1 := ClientHello(records(b, maxPlaintext))
		h2, v2 := ClientHello(records(b, cut))
		if v1 != v2 || h1.SNI != h2.SNI || !slices.Equal(h1.ALPN, h2.ALPN) {
			t.Errorf("%v %v in one record, %v %v in records of %d", v1, h1, v2, h2, cut)
		}
	})
}
