package exchange

import (
	"strconv"
	"strings"

	"github.com/tulle-mesh/tulle/proxy/head"
	"github.com/tulle-mesh/tulle/proxy/hop"
)

// maxReason bounds the text of tulle-proxy-error and grpc-message, in bytes.
const maxReason = 1024

// Answer is a response of the proxy's own (§8).
type Answer struct {
	Status int // HTTP
	GRPC   int // gRPC code
	Reason string
	// Unprocessed tells a peer proxy that the request was not acted upon (R5.4).
	Unprocessed bool
	// RetryAfter, in seconds, is sent when it is positive.
	RetryAfter int
}

// answer is what a failed attempt becomes when no other is made.
func (f *Failure) answer() Answer {
	a := Answer{Status: 502, GRPC: 14, Reason: f.Reason, Unprocessed: f.Unprocessed}
	switch {
	case f.Timeout && f.Connect:
		a.Status = 504
	case f.Timeout:
		a.Status, a.GRPC = 504, 4
	case f.Status == 404: // R8.4
		a.Status, a.GRPC = 404, 5
	case f.Status != 0:
		a.Status = f.Status
	}
	return a
}

// Answer answers the request; the rest of its body goes nowhere.
func (x *Exchange) Answer(a Answer) {
	if x.flags.finished || x.flags.respHead {
		return
	}
	x.flags.opening = false
	var h head.Head
	h.Length = -1
	x.compose(&h, &a, x.why(&a))
	x.flags.respHead = true
	x.flags.result = Answered
	x.Status = h.Status
	x.dir.Response(x, &h)
	x.flags.discard = true
	x.down.Head(&h, true)
	if x.flags.finished {
		return
	}
	x.flags.respEnd = true
	x.consume(x.pos.received)
	x.freeRequest()
	x.settle()
}

// endCall ends the response to a gRPC call whose head has left with the status that the call has for the proxy (R4.7): a
// client takes a reset for INTERNAL, and what it would do for UNAVAILABLE it does not do then. It reports whether it could.
func (x *Exchange) endCall(a Answer) bool {
	if !x.flags.call || x.flags.respEnd {
		return false
	}
	x.GRPCStatus = a.GRPC
	x.flags.result = Cut
	x.down.Trailers(x.status(nil, a.GRPC, x.why(&a)))
	if !x.flags.finished {
		x.flags.respEnd = true
		x.discard()
	}
	return true
}

// why is what people read of an answer.
func (x *Exchange) why(a *Answer) string {
	reason := x.dir.Where(x)
	if a.Reason != "" {
		reason += ": " + a.Reason
	}
	return clean(reason)
}

// status appends how a gRPC call ended.
func (x *Exchange) status(to []head.Field, code int, reason string) []head.Field {
	to = append(to, head.Field{Name: []byte("grpc-status"), Value: strconv.AppendInt(nil, int64(code), 10)})
	if x.Local {
		to = append(to, head.Field{Name: []byte("grpc-message"), Value: []byte(percent(reason))})
	}
	return to
}

// compose fills h with the answer's head.
func (x *Exchange) compose(h *head.Head, a *Answer, reason string) {
	h.Version = min(max(x.Req.Version, 11), 20)
	if x.Req.Version == 10 {
		h.Version = 10
	}
	add := func(name, value string) { h.Add([]byte(name), []byte(value)) }
	if x.GRPC {
		h.Status = 200
		x.GRPCStatus = a.GRPC
		add("content-type", "application/grpc")
		h.Fields = x.status(h.Fields, a.GRPC, reason)
	} else {
		h.Status = a.Status
		h.Length = 0
		h.Framing = head.FramingLength
		add("content-length", "0")
	}
	h.Reason = []byte(head.UsualReason(h.Status))
	switch {
	case a.RetryAfter > 0 && x.GRPC:
		add("grpc-retry-pushback-ms", strconv.Itoa(a.RetryAfter*1000))
	case a.RetryAfter > 0:
		add("retry-after", strconv.Itoa(a.RetryAfter))
	}
	if x.Local {
		add(hop.FieldError, reason)
	}
	if a.Unprocessed && x.Peer {
		add(hop.FieldUnprocessed, hop.Unprocessed)
	}
}

// clean makes a text fit for a field value: printable ASCII, bounded.
func clean(s string) string {
	s = s[:min(len(s), maxReason)]
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// percent encodes a grpc-message (gRPC over HTTP/2, "Status-Message").
func percent(s string) string {
	return strings.ReplaceAll(s, "%", "%25")
}
