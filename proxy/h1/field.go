package h1

import (
	"bytes"

	"github.com/tulle-mesh/tulle/proxy/head"
)

// fields parses field lines into h.Fields; b ends in an empty line.
func fields(b []byte, lim *Limits, h *head.Head, c *connection) *Error {
	for n := 0; b[0] != '\r'; n++ {
		if n == lim.HeaderCount {
			return &Error{Status: 431, Reason: "too many fields"}
		}
		var f head.Field
		var err *Error
		if b, err = field(b, &f); err != nil {
			return err
		}
		keep, err := c.note(h, &f)
		if err != nil {
			return err
		}
		if keep {
			h.Fields = append(h.Fields, f)
		}
	}
	return end(b)
}

// parseTrailers parses the fields after a chunked body. Fields that frame or
// route a message, or say who sent it, are no trailers (RFC 9110, section 6.5.1):
// whoever merged them into the head would be misled, so they are refused.
func parseTrailers(b []byte, lim *Limits, h *head.Head) *Error {
	for n := 0; b[0] != '\r'; n++ {
		if n == lim.HeaderCount {
			return &Error{Status: 431, Reason: "too many trailers"}
		}
		var f head.Field
		var err *Error
		if b, err = field(b, &f); err != nil {
			return err
		}
		switch {
		case head.NeverTrailer(f.Name):
			return bad("a trailer that may not be one")
		case !reserved(f.Name):
			h.Fields = append(h.Fields, f)
		}
	}
	return end(b)
}

// reserved reports names of the mesh's own fields.
func reserved(n []byte) bool {
	return len(n) > 5 && head.EqualFold(n[:5], "tulle") && (n[5] == '-' || n[5] == '_')
}

// end checks the empty line: find has passed over a CR within it.
func end(b []byte) *Error {
	if len(b) != len(crlf) {
		return bad("bare CR in a head")
	}
	return nil
}

// field parses one "name: value" line (RFC 9112, section 5) at the start of b,
// which find has checked to end in CRLF, and returns what follows it.
func field(b []byte, f *head.Field) ([]byte, *Error) {
	n := span(b, classToken)
	if n == 0 || b[n] != ':' {
		return nil, badName(b, n)
	}
	v := b[n+1:]
	e := valueEnd(v)
	if v[e] != '\r' || v[e+1] != '\n' {
		return nil, bad("control byte in a field value")
	}
	f.Name, f.Value = b[:n:n], trim(v[:e:e])
	return v[e+2:], nil
}

// badName says what is wrong with a line that has no name, or, after n bytes of
// one, no colon.
func badName(b []byte, n int) *Error {
	switch {
	case n == 0 && isSpace(b[0]):
		return bad("folded field line")
	case n == 0 && b[0] == ':':
		return bad("field line without a name")
	case isSpace(b[n]):
		return bad("space in a field name")
	case b[n] == '\r' && b[n+1] == '\n':
		return bad("field line without a colon")
	}
	return bad("bad byte in a field name")
}

// removeField takes the fields called name out of h.
func removeField(h *head.Head, name string) {
	out := h.Fields[:0]
	for i := range h.Fields {
		if !head.EqualFold(h.Fields[i].Name, name) {
			out = append(out, h.Fields[i])
		}
	}
	h.Fields = out
}

// hasToken reports whether a comma-separated list has token, in any case.
// Parameters behind a token are passed over.
func hasToken(list []byte, token string) bool {
	for len(list) > 0 {
		var one []byte
		one, list, _ = bytes.Cut(list, []byte(","))
		one, _, _ = bytes.Cut(one, []byte(";"))
		if head.EqualFold(trim(one), token) {
			return true
		}
	}
	return false
}
