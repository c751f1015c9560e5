package detect

import (
	"bytes"
	"strings"
)

// MeshPrefix begins the name of each of Tulle's protocols (rule R5.1).
const MeshPrefix = "tulle/"

// Hello is what a ClientHello says in clear. With Encrypted Client Hello it is
// the outer one.
type Hello struct {
	ALPN []string
	// SNI is what the client wrote, not validated: escape it (rule R12.6), and
	// never make it a label.
	SNI string
}

const (
	recordHeader    = 5
	maxPlaintext    = 16 << 10
	maxRecords      = 128 // one for each 512 bytes of MaxBytes
	typeHandshake   = 22
	typeClientHello = 1
	extServerName   = 0
	extALPN         = 16
)

// ClientHello reads a ClientHello out of b, over as many records as it takes
// (rule R2.1; RFC 8446, 4.1.2 and 5.1). Mesh and TLS are its verdicts for one,
// More for the beginning of one, Opaque for anything else. What begins as a
// ClientHello and goes wrong afterwards, or is longer than MaxBytes, is TLS
// without a known name: the application behind will judge it.
func ClientHello(b []byte) (Hello, Verdict) {
	msg, v := message(b)
	if v != TLS || msg == nil {
		return Hello{}, v
	}
	var h Hello
	if !h.parse(msg) {
		return Hello{}, TLS
	}
	for _, p := range h.ALPN {
		if strings.HasPrefix(p, MeshPrefix) {
			return h, Mesh
		}
	}
	return h, TLS
}

// message gathers the first handshake message from its records, without its
// header. It copies only what is spread over several.
func message(b []byte) ([]byte, Verdict) {
	if !beginsHello(b) {
		return nil, Opaque
	}
	b = b[:min(len(b), MaxBytes)]
	rest := b
	var msg []byte
	for i := range maxRecords {
		if len(rest) > 0 && rest[0] != typeHandshake {
			return nil, TLS // another kind of record amid the message
		}
		if len(rest) < recordHeader {
			return nil, undecided(b)
		}
		n := int(rest[3])<<8 | int(rest[4])
		if n == 0 || n > maxPlaintext {
			return nil, TLS
		}
		part := rest[recordHeader:min(len(rest), recordHeader+n)]
		switch i {
		case 0:
			msg = part
		case 1:
			msg = append(bytes.Clone(msg), part...)
		default:
			msg = append(msg, part...)
		}
		if len(msg) >= 4 {
			need := 4 + int(msg[1])<<16 + int(msg[2])<<8 + int(msg[3])
			switch {
			case need > MaxBytes:
				return nil, TLS
			case len(msg) >= need:
				return msg[4:need], TLS
			}
		}
		if len(part) < n {
			return nil, undecided(b)
		}
		rest = rest[recordHeader+n:]
	}
	return nil, TLS
}

func undecided(b []byte) Verdict {
	if len(b) >= MaxBytes {
		return TLS
	}
	return More
}

// beginsHello checks the bytes that tell a TLS client from all else: a handshake
// record of SSL 3.0 to TLS 1.3's legacy version, of a legal length, with a
// ClientHello in it.
func beginsHello(b []byte) bool {
	switch {
	case len(b) > 0 && b[0] != typeHandshake,
		len(b) > 1 && b[1] != 3,
		len(b) > 2 && b[2] > 4:
		return false
	}
	if len(b) >= recordHeader {
		if n := int(b[3])<<8 | int(b[4]); n == 0 || n > maxPlaintext {
			return false
		}
	}
	return len(b) <= recordHeader || b[recordHeader] == typeClientHello
}

// cursor reads TLS's length-prefixed vectors; bad is set once it ran out.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) take(n int) []byte {
	if n > len(c.b) {
		c.b, c.bad = nil, true
		return nil
	}
	p := c.b[:n]
	c.b = c.b[n:]
	return p
}

// vector reads a vector whose length has size bytes.
func (c *cursor) vector(size int) cursor {
	n := 0
	for _, x := range c.take(size) {
		n = n<<8 | int(x)
	}
	return cursor{b: c.take(n), bad: c.bad}
}

// parse reads the body of a ClientHello; unknown extensions, GREASE among them
// (RFC 8701), are passed over.
func (h *Hello) parse(msg []byte) bool {
	c := cursor{b: msg}
	c.take(2 + 32) // legacy version, random
	c.vector(1)    // session id
	c.vector(2)    // cipher suites
	c.vector(1)    // compression methods
	if c.bad || len(c.b) == 0 {
		return !c.bad // no extensions
	}
	ext := c.vector(2)
	if ext.bad || len(c.b) != 0 {
		return false
	}
	for len(ext.b) > 0 {
		id := ext.take(2)
		body := ext.vector(2)
		if ext.bad || body.bad {
			return false
		}
		ok := true
		switch int(id[0])<<8 | int(id[1]) {
		case extServerName:
			ok = h.serverName(body)
		case extALPN:
			ok = h.alpn(body)
		}
		if !ok {
			return false
		}
	}
	return true
}

// serverName reads RFC 6066, section 3.
func (h *Hello) serverName(c cursor) bool {
	list := c.vector(2)
	for len(list.b) > 0 {
		kind := list.take(1)
		name := list.vector(2)
		if list.bad || name.bad {
			return false
		}
		if kind[0] == 0 && h.SNI == "" {
			h.SNI = string(name.b)
		}
	}
	return !list.bad && len(c.b) == 0
}

// alpn reads RFC 7301, section 3.1.
func (h *Hello) alpn(c cursor) bool {
	list := c.vector(2)
	for len(list.b) > 0 {
		name := list.vector(1)
		if list.bad || name.bad || len(name.b) == 0 {
			return false
		}
		h.ALPN = append(h.ALPN, string(name.b))
	}
	return !list.bad && len(c.b) == 0
}
