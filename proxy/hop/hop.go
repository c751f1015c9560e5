// Package hop is the format between two proxies: the names of its protocols,
// the reserved field in which an HTTP/1 head crosses HTTP/2 (rule R5.3), the
// result that opens an opaque TCP connection (rule R5.4), and the fields that
// only proxies may write (rule R5.5). It is pure; the bytes in testdata are the
// format, and change only with the version.
//
// # The reserved field
//
// FieldHTTP1 says what HTTP/2 cannot: the version, the form of the target, the
// reason phrase, the case of names, and where the fields stood that HTTP/2 does
// not carry. It holds nothing that varies between requests of one shape, so
// that HPACK writes it once and then as one byte. Most requests need "1H.":
//
//	value   = "1" *start *shape "."
//	start   = "0"            ; HTTP/1.0; else HTTP/1.1
//	        / "A" string     ; absolute form: this, then :path, is the target
//	        / "V" string     ; the target, whatever :path says
//	        / "M" string     ; the method, where HTTP/2 says CONNECT for an upgrade
//	        / "S"            ; the status is 101, where HTTP/2 says 200
//	        / "C" / "N"      ; the body ends with the connection; there is none (HEAD, 204, 304),
//	                         ; where the fields do not say so
//	        / "R" string     ; the reason phrase, where it is not the usual one
//	shape   = 1*DIGIT        ; so many fields in the case that holds
//	        / "c" / "l"      ; from here names are Train-Case, lower case
//	        / "x" 1*HEXDIG "-"   ; the next name's upper-case letters, a bit each
//	        / "H" / "h" string   ; a Host field, its value :authority or given
//	        / "T" / "t" string   ; Transfer-Encoding, chunked or given
//	        / "G" / "g" string   ; Upgrade, its value :protocol (in a response: websocket) or given
//	string  = 1*DIGIT ":" bytes
//
// Train-Case holds at first; fields after the last shape have the case that
// then holds. AppendHTTP1 is therefore called last, after all filters: a field
// that is added behind it comes out in Train-Case.
//
// Restore rebuilds the head's bytes, parses them as if they came from the
// network, and compares the outcome with what it meant to write: a value from a
// hostile peer can be refused, but not understood differently.
package hop

import (
	"errors"
	"fmt"

	"github.com/tulle-mesh/tulle/proxy/head"
)

// The protocols between proxies, versioned (rule R5.1).
const (
	ALPNHTTP = "tulle/h2.1"
	ALPNTCP  = "tulle/tcp.1"
)

// The fields that proxies write.
const (
	// FieldHTTP1 holds what HTTP/2 cannot say of an HTTP/1 head. Never leaves the hop.
	FieldHTTP1 = "tulle-hop-http1"
	// FieldUnprocessed, with the value Unprocessed, says that the application
	// never saw the request (rule R5.4). Never leaves the hop.
	FieldUnprocessed = "tulle-hop"
	// FieldClientID is the client's identity, taken from its certificate.
	FieldClientID = "tulle-client-id"
	// FieldError is why a proxy answered itself (§8).
	FieldError = "tulle-proxy-error"
)

// Unprocessed is the value of FieldUnprocessed.
const Unprocessed = "unprocessed"

var (
	// ErrPlain says that a head does not carry FieldHTTP1: it was HTTP/2 from the start.
	ErrPlain = errors.New("hop: no HTTP/1 head in it")
)

// FormatError says that a peer's reserved field cannot be used (rule R5.1:
// refused, not ignored).
type FormatError struct {
	Reason string // constant
	Cause  error  // may be nil
}

// Error returns the reason and its cause.
func (e *FormatError) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("hop: %s: %v", e.Reason, e.Cause)
	}
	return "hop: " + e.Reason
}

// Unwrap returns the cause.
func (e *FormatError) Unwrap() error { return e.Cause }

// Reserved reports whether name may be written by proxies alone: it begins with
// "tulle-" or "tulle_", which many applications take for the same (rule R5.5).
func Reserved(name []byte) bool {
	const prefix = "tulle"
	return len(name) > len(prefix) && (name[len(prefix)] == '-' || name[len(prefix)] == '_') &&
		head.EqualFold(name[:len(prefix)], prefix)
}

// Strip removes the reserved fields from h, a head or trailers, in place.
func Strip(h *head.Head) { h.Fields = StripFields(h.Fields) }

// StripFields removes the reserved fields from f in place.
func StripFields(f []head.Field) []head.Field {
	out := f[:0]
	for i := range f {
		if !Reserved(f[i].Name) {
			out = append(out, f[i])
		}
	}
	return out
}
