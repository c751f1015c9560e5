package hop

import (
	"bytes"
	"strconv"

	"github.com/tulle-mesh/tulle/proxy/h1"
	"github.com/tulle-mesh/tulle/proxy/head"
)

// Restore rebuilds the HTTP/1 head that h was before it crossed the hop. It
// appends the head's bytes to dst and fills out, which aliases the buffer
// returned. h is a head as proxy/h2 gave it: it may carry other reserved fields,
// which are left out. Without FieldHTTP1 the error is ErrPlain; any other is a
// *FormatError, and the head must be refused.
//
// The body's framing is out's. A peer may still send a body where out.Framing
// is FramingNone: whoever passes the body on refuses that.
func Restore(dst []byte, h *head.Head, lim h1.Limits, out *head.Head) (buf []byte, err error) {
	value, err := reservedValue(h.Fields)
	if err != nil {
		return dst, err
	}
	r := rebuilder{h: h, ops: value, dst: dst}
	start := len(dst)
	if h.Status != 0 {
		r.statusLine()
	} else {
		r.requestLine()
	}
	first := len(r.dst)
	r.shape()
	if r.bad != "" {
		return dst, &FormatError{Reason: r.bad}
	}
	last := len(r.dst)
	if h.Upgrade != nil || r.switching {
		r.dst = append(r.dst, "Connection: upgrade\r\n"...) // the parser wants it, and removes it
	}
	r.dst = append(r.dst, "\r\n"...)
	if err := r.parse(r.dst[start:], lim, out); err != nil {
		return dst, err
	}
	if !r.agrees(r.dst[first:last], out) {
		return dst, &FormatError{Reason: "head reads differently when parsed"}
	}
	if !r.frame(out) {
		return dst, &FormatError{Reason: "a framing that the fields deny"}
	}
	return r.dst, nil
}

// RestoreTrailers rebuilds the names of trailers. Without FieldHTTP1 they stay
// as they are. Reserved fields are removed. It appends the names to dst and the
// fields to out.
func RestoreTrailers(dst []byte, f, out []head.Field) (buf []byte, fields []head.Field, err error) {
	value, err := reservedValue(f)
	if err == ErrPlain {
		value = allLower
	} else if err != nil {
		return dst, out, err
	}
	r := rebuilder{h: &head.Head{Fields: f}, ops: value, dst: dst, trailers: true, out: out}
	r.version()
	r.shape()
	if r.bad != "" {
		return dst, out, &FormatError{Reason: r.bad}
	}
	return r.dst, r.out, nil
}

// reservedValue returns the value of the one FieldHTTP1.
func reservedValue(f []head.Field) ([]byte, error) {
	var v []byte
	for i := range f {
		if !head.EqualFold(f[i].Name, FieldHTTP1) {
			continue
		}
		if v != nil {
			return nil, &FormatError{Reason: "two reserved fields"}
		}
		v = f[i].Value
		if len(v) == 0 || v[0] != version {
			return nil, &FormatError{Reason: "unknown version"}
		}
	}
	if v == nil {
		return nil, ErrPlain
	}
	return v, nil
}

// rebuilder executes the operators of a value; the first fault stays in bad.
type rebuilder struct {
	h   *head.Head
	ops []byte // not yet executed
	dst []byte
	bad string

	// where dst holds the method, the target and the reason
	method, target, reason span
	status                 int
	switching              bool
	framing                byte // operator that overrides what the fields say, or 0

	at    int // index of the next field of h
	lines int // fields written
	hold  letterCase
	mask  []byte // of the next name, nil for none

	trailers bool
	out      []head.Field
}

// span is a stretch of dst.
type span struct{ from, to int }

func (s span) of(b []byte) []byte { return b[s.from:s.to] }

// put appends b to dst and returns where it stands.
func (r *rebuilder) put(b []byte) span {
	from := len(r.dst)
	r.dst = append(r.dst, b...)
	return span{from, len(r.dst)}
}

func (r *rebuilder) fail(reason string) {
	if r.bad == "" {
		r.bad, r.ops = reason, nil
	}
}

// is consumes the operator c when it comes next.
func (r *rebuilder) is(c byte) bool {
	if len(r.ops) == 0 || r.ops[0] != c {
		return false
	}
	r.ops = r.ops[1:]
	return true
}

// version consumes version and 0 and returns the name of the version.
func (r *rebuilder) version() string {
	r.is(version)
	if r.is('0') {
		return "HTTP/1.0"
	}
	return "HTTP/1.1"
}

func (r *rebuilder) requestLine() {
	name := r.version()
	method, target := r.h.Method, r.h.Target
	if r.h.Upgrade != nil {
		method = methodGet
	} else if r.h.IsConnect() {
		target = r.h.Authority
	}
	var prefix []byte
	switch {
	case r.is('A'):
		prefix = r.string()
	case r.is('V'):
		target = r.string()
	}
	if r.is('M') {
		if r.h.Upgrade == nil {
			r.fail("a method without an upgrade")
		}
		method = r.string()
	}
	r.method = r.put(method)
	r.dst = append(r.dst, ' ')
	r.target = r.put(prefix)
	r.target.to = r.put(target).to
	r.dst = append(r.dst, ' ')
	r.dst = append(r.dst, name...)
	r.dst = append(r.dst, "\r\n"...)
}

func (r *rebuilder) statusLine() {
	name := r.version()
	r.status = r.h.Status
	if r.is('S') {
		if r.status != 200 {
			r.fail("switching protocols with another status than 200")
		}
		r.status, r.switching = 101, true
	}
	if r.is('C') {
		r.framing = 'C'
	} else if r.is('N') {
		r.framing = 'N'
	}
	r.dst = append(r.dst, name...)
	r.dst = append(r.dst, ' ')
	r.dst = strconv.AppendInt(r.dst, int64(r.status), 10)
	r.dst = append(r.dst, ' ')
	if r.is('R') {
		r.reason = r.put(r.string())
	} else {
		r.reason = span{len(r.dst), len(r.dst)}
		r.dst = append(r.dst, head.UsualReason(r.status)...)
		r.reason.to = len(r.dst)
	}
	r.dst = append(r.dst, "\r\n"...)
}

// shape executes the shape's operators and writes all fields.
func (r *rebuilder) shape() {
	for r.bad == "" {
		if len(r.ops) == 0 {
			r.fail("cut short")
			return
		}
		c := r.ops[0]
		if c >= '1' && c <= '9' {
			r.advance(r.number())
			continue
		}
		r.ops = r.ops[1:]
		switch c {
		case 'c':
			r.hold = caseTrain
		case 'l':
			r.hold = caseLower
		case 'x':
			r.readMask()
		case 'H', 'h':
			r.special(asHost, lowerHost, c)
		case 'T', 't':
			r.special(asCoding, lowerCoding, c)
		case 'G', 'g':
			r.special(asUpgrade, lowerUpgrade, c)
		case end:
			r.finish()
			return
		default:
			r.fail("unknown operator")
		}
	}
}

// finish writes the fields that are left.
func (r *rebuilder) finish() {
	for {
		f, ok := r.next()
		if !ok {
			break
		}
		r.write(f.Name, f.Value)
	}
	switch {
	case len(r.ops) != 0:
		r.fail("bytes behind the end")
	case r.mask != nil:
		r.fail("a mask without a name")
	}
}

func (r *rebuilder) advance(n int) {
	for range n {
		f, ok := r.next()
		if !ok {
			r.fail("fewer fields than told")
			return
		}
		r.write(f.Name, f.Value)
	}
}

// next returns the next field that HTTP/2 carried for the message itself.
func (r *rebuilder) next() (*head.Field, bool) {
	for r.at < len(r.h.Fields) {
		f := &r.h.Fields[r.at]
		r.at++
		switch specialOf(f.Name) {
		case carried:
			return f, true
		case dropped:
			if Reserved(f.Name) {
				continue
			}
		}
		r.fail("a field that HTTP/2 does not carry") // RFC 9113, 8.2.2
		return nil, false
	}
	return nil, false
}

func (r *rebuilder) special(kind special, name []byte, op byte) {
	if r.trailers {
		r.fail("a field of the head in trailers")
		return
	}
	value := kind.usual(r.h)
	if isLower(op) {
		value = r.string()
	}
	r.write(name, value)
}

// write appends one field in the case that holds, or its mask.
func (r *rebuilder) write(name, value []byte) {
	if r.bad != "" {
		return
	}
	at := len(r.dst)
	r.dst = append(r.dst, name...)
	r.capitals(r.dst[at:])
	if r.trailers {
		r.out = append(r.out, head.Field{Name: r.dst[at:len(r.dst):len(r.dst)], Value: value})
		return
	}
	r.lines++
	r.dst = append(r.dst, ": "...)
	r.dst = append(r.dst, value...)
	r.dst = append(r.dst, "\r\n"...)
}

func (r *rebuilder) capitals(name []byte) {
	mask := r.mask
	r.mask = nil
	if mask != nil && len(mask) != (len(name)+3)/4 {
		r.fail("a mask of another length than its name")
		return
	}
	first := true
	for i, c := range name {
		capital := r.hold == caseTrain && first
		first = c == '-'
		if mask != nil {
			capital = unhex(mask[i/4])&(8>>(i%4)) != 0
			if capital && !isLower(c) {
				r.fail("a mask that raises no letter")
			}
		}
		switch {
		case isUpper(c), c == ':': // RFC 9113, 8.2.1; a colon would end the name early
			r.fail("a malformed name")
		case capital && isLower(c):
			name[i] = c - 'a' + 'A'
		}
	}
}

// readMask reads the digits of a mask; capitals knows how many there must be.
func (r *rebuilder) readMask() {
	n := 0
	for n < len(r.ops) && unhex(r.ops[n]) >= 0 {
		n++
	}
	mask := r.ops[:n]
	r.ops = r.ops[n:]
	if n == 0 || r.mask != nil || !r.is(maskEnd) {
		r.fail("a malformed mask")
		return
	}
	r.mask = mask
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

// number reads a decimal number of at most six digits.
func (r *rebuilder) number() int {
	n, i := 0, 0
	for i < len(r.ops) && i < 6 && r.ops[i] >= '0' && r.ops[i] <= '9' {
		n = n*10 + int(r.ops[i]-'0')
		i++
	}
	if i == 0 || i > 1 && r.ops[0] == '0' {
		r.fail("a malformed number")
		return 0
	}
	r.ops = r.ops[i:]
	return n
}

func (r *rebuilder) string() []byte {
	n := r.number()
	if !r.is(':') || n > len(r.ops) {
		r.fail("a malformed string")
		return nil
	}
	s := r.ops[:n]
	r.ops = r.ops[n:]
	return s
}

// parse reads the rebuilt head as if the network had sent it.
func (r *rebuilder) parse(b []byte, lim h1.Limits, out *head.Head) error {
	var n int
	var perr *h1.Error
	if r.h.Status != 0 {
		n, perr = h1.ParseResponse(b, lim, out)
	} else {
		n, perr = h1.ParseRequest(b, lim, out)
	}
	switch {
	case perr != nil:
		return &FormatError{Reason: "rebuilt head refused", Cause: perr}
	case n != len(b):
		return &FormatError{Reason: "rebuilt head ends elsewhere"}
	}
	return nil
}

// agrees reports whether the parser saw just the head that was meant: the same
// line, and for each field written one field with the same bytes. A value with a
// line's end in it makes one more, a field of the hop one less.
func (r *rebuilder) agrees(lines []byte, out *head.Head) bool {
	if !r.sameLine(out) || len(out.Fields) != r.lines {
		return false
	}
	for i := range out.Fields {
		f := &out.Fields[i]
		n := len(f.Name) + len(": ") + len(f.Value) + len("\r\n")
		if n > len(lines) || !bytes.Equal(lines[:len(f.Name)], f.Name) ||
			!bytes.Equal(lines[len(f.Name)+2:n-2], f.Value) {
			return false
		}
		lines = lines[n:]
	}
	return len(lines) == 0
}

// frame gives a response the framing that depended on its request.
func (r *rebuilder) frame(out *head.Head) bool {
	switch r.framing {
	case 'N':
		out.Framing = head.FramingNone
	case 'C':
		if out.Framing != head.FramingNone {
			return false
		}
		out.Framing, out.Close = head.FramingClose, true
	}
	return true
}

func (r *rebuilder) sameLine(out *head.Head) bool {
	if r.h.Status != 0 {
		return out.Status == r.status && bytes.Equal(out.Reason, r.reason.of(r.dst))
	}
	return bytes.Equal(out.Method, r.method.of(r.dst)) && bytes.Equal(out.Target, r.target.of(r.dst)) &&
		(out.Upgrade == nil) == (r.h.Upgrade == nil) && bytes.Equal(out.Upgrade, r.h.Upgrade)
}
