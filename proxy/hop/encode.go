package hop

import (
	"bytes"
	"strconv"

	"github.com/tulle-mesh/tulle/proxy/head"
)

const version = '1'

// end closes every value, so that one cut short, or ended by a space, which
// HTTP/2 forbids, cannot be.
const end = '.'

// maskEnd closes a mask.
const maskEnd = '-'

// letterCase is how a name is written.
type letterCase uint8

const (
	caseTrain letterCase = iota // Train-Case
	caseLower
)

// AppendHTTP1 appends the value of FieldHTTP1 for h, a request, response or
// interim response that came in over HTTP/1, as it is about to be sent: after
// all filters. The rest of h crosses as HTTP/2 fields: names in lower case,
// without Host, Transfer-Encoding and Upgrade; :path of an absolute form is
// Path. A status of 101 crosses as 200 (RFC 8441, 5).
func AppendHTTP1(dst []byte, h *head.Head) []byte {
	dst = append(dst, version)
	if h.Version == 10 {
		dst = append(dst, '0')
	}
	if h.Status != 0 {
		dst = appendStatus(dst, h)
	} else {
		dst = appendTarget(dst, h)
	}
	w := shaper{dst: dst}
	for i := range h.Fields {
		w.field(h, &h.Fields[i])
	}
	return append(w.dst, end)
}

// AppendTrailers appends the value of FieldHTTP1 for trailers that came in over
// HTTP/1; nothing when they need none.
func AppendTrailers(dst []byte, f []head.Field) []byte {
	plain := true
	for i := range f {
		plain = plain && (Reserved(f[i].Name) || written(f[i].Name, caseLower))
	}
	if plain {
		return dst
	}
	w := shaper{dst: append(dst, version)}
	for i := range f {
		w.field(&head.Head{}, &f[i])
	}
	return append(w.dst, end)
}

// Path is what HTTP/2's :path is for a request that came in over HTTP/1: the
// target itself, but for the absolute form the part that follows the authority.
// Where that is not a path, AppendHTTP1 carries the whole target besides.
func Path(h *head.Head) []byte {
	if h.Form != head.FormAbsolute {
		return h.Target
	}
	if n := pathStart(h.Target); n < len(h.Target) && h.Target[n] == '/' {
		return h.Target[n:]
	}
	if string(h.Method) == "OPTIONS" { // RFC 9113, 8.3.1
		return pathAsterisk
	}
	return pathRoot
}

// pathStart is the length of an absolute form's scheme and authority.
func pathStart(target []byte) int {
	at := bytes.Index(target, []byte("://"))
	if at < 0 {
		return len(target)
	}
	at += len("://")
	if n := bytes.IndexAny(target[at:], "/?#"); n >= 0 {
		return at + n
	}
	return len(target)
}

func appendTarget(dst []byte, h *head.Head) []byte {
	switch h.Form {
	case head.FormAbsolute:
		if n := pathStart(h.Target); n < len(h.Target) && h.Target[n] == '/' {
			dst = appendString(append(dst, 'A'), h.Target[:n])
		} else {
			dst = appendString(append(dst, 'V'), h.Target)
		}
	case head.FormAuthority:
		if !bytes.Equal(h.Target, h.Authority) {
			dst = appendString(append(dst, 'V'), h.Target)
		}
	}
	if h.Upgrade != nil && string(h.Method) != "GET" {
		dst = appendString(append(dst, 'M'), h.Method)
	}
	return dst
}

func appendStatus(dst []byte, h *head.Head) []byte {
	if h.Status == 101 {
		dst = append(dst, 'S')
	}
	switch told := toldFraming(h); {
	case told == h.Framing:
	case h.Framing == head.FramingClose:
		dst = append(dst, 'C')
	case h.Framing == head.FramingNone:
		dst = append(dst, 'N')
	}
	if string(h.Reason) != head.UsualReason(h.Status) {
		dst = appendString(append(dst, 'R'), h.Reason)
	}
	return dst
}

// toldFraming is what h's fields say of its framing.
func toldFraming(h *head.Head) head.Framing {
	told := head.FramingNone
	for i := range h.Fields {
		switch n := h.Fields[i].Name; {
		case head.EqualFold(n, "transfer-encoding"):
			return head.FramingChunked
		case head.EqualFold(n, "content-length"):
			told = head.FramingLength
		}
	}
	return told
}

func appendString(dst, s []byte) []byte {
	dst = strconv.AppendInt(dst, int64(len(s)), 10)
	dst = append(dst, ':')
	return append(dst, s...)
}

// special is what a field is that HTTP/2 does not carry as such.
type special uint8

const (
	carried   special = iota // as a field
	asHost                   // as :authority
	asCoding                 // by END_STREAM
	asUpgrade                // as :protocol
	dropped                  // of this hop or of the proxies
)

// specialOf looks at the length first: most names are none of these.
func specialOf(name []byte) special {
	switch len(name) {
	case 4:
		if head.EqualFold(name, "host") {
			return asHost
		}
	case 7:
		if head.EqualFold(name, "upgrade") {
			return asUpgrade
		}
	case 10:
		if head.EqualFold(name, "connection") || head.EqualFold(name, "keep-alive") {
			return dropped
		}
	case 14:
		if head.EqualFold(name, "http2-settings") {
			return dropped
		}
	case 16:
		if head.EqualFold(name, "proxy-connection") {
			return dropped
		}
	case 17:
		if head.EqualFold(name, "transfer-encoding") {
			return asCoding
		}
	}
	if Reserved(name) {
		return dropped
	}
	return carried
}

// Constant values as bytes; nobody changes them.
var (
	methodGet     = []byte("GET")
	codingChunked = []byte("chunked")
	upgradeUsual  = []byte("websocket")
	pathRoot      = []byte("/")
	pathAsterisk  = []byte("*")
	allLower      = []byte("1l.")
	lowerHost     = []byte("host")
	lowerCoding   = []byte("transfer-encoding")
	lowerUpgrade  = []byte("upgrade")
)

// usual returns the value that a special field has without saying.
func (k special) usual(h *head.Head) []byte {
	switch {
	case k == asHost:
		return h.Authority
	case k == asCoding:
		return codingChunked
	case h.Status != 0: // there is no :protocol in a response
		return upgradeUsual
	}
	return h.Upgrade
}

// letters are a special field's operators: usual value, given value.
func (k special) letters() (usual, given byte) {
	switch k {
	case asHost:
		return 'H', 'h'
	case asCoding:
		return 'T', 't'
	}
	return 'G', 'g'
}

// shaper writes the shape of a list of fields.
type shaper struct {
	dst  []byte
	run  int // fields in the case that holds, not yet written
	hold letterCase
}

func (w *shaper) field(h *head.Head, f *head.Field) {
	kind := specialOf(f.Name)
	if kind == dropped || head.EqualFold(f.Name, "te") && !head.EqualFold(f.Value, "trailers") { // RFC 9113, 8.2.2
		return
	}
	w.name(f.Name)
	if kind == carried {
		w.run++
		return
	}
	w.flush()
	usual, given := kind.letters()
	if bytes.Equal(f.Value, kind.usual(h)) {
		w.dst = append(w.dst, usual)
		return
	}
	w.dst = appendString(append(w.dst, given), f.Value)
}

// name makes the case hold that name is written in, or gives it a mask.
func (w *shaper) name(name []byte) {
	if written(name, w.hold) {
		return
	}
	w.flush()
	switch {
	case written(name, caseTrain):
		w.hold, w.dst = caseTrain, append(w.dst, 'c')
	case written(name, caseLower):
		w.hold, w.dst = caseLower, append(w.dst, 'l')
	default:
		w.dst = append(appendMask(append(w.dst, 'x'), name), maskEnd)
	}
}

func (w *shaper) flush() {
	if w.run > 0 {
		w.dst = strconv.AppendInt(w.dst, int64(w.run), 10)
		w.run = 0
	}
}

const hexDigits = "0123456789abcdef"

// appendMask appends a bit for each byte of name, set for upper case, the first
// in the highest bit, four to a digit.
func appendMask(dst, name []byte) []byte {
	for i := 0; i < len(name); i += 4 {
		d := 0
		for j := i; j < min(i+4, len(name)); j++ {
			if isUpper(name[j]) {
				d |= 8 >> (j - i)
			}
		}
		dst = append(dst, hexDigits[d])
	}
	return dst
}

func isUpper(c byte) bool { return c-'A' < 26 }
func isLower(c byte) bool { return c-'a' < 26 }

// written reports whether name is in case c.
func written(name []byte, c letterCase) bool {
	for i, b := range name {
		if capital := c == caseTrain && (i == 0 || name[i-1] == '-'); capital && isLower(b) || !capital && isUpper(b) {
			return false
		}
	}
	return true
}
