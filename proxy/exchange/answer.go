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
	reason := x.dir.Where(x)
	if a.Reason != "" {
		reason += ": " + a.Reason
	}
	var h head.Head
	h.Length = -1
	x.compose(&h, &a, clean(reason))
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
		add("grpc-status", strconv.Itoa(a.GRPC))
		if x.Local {
			add("grpc-message", percent(reason))
		}
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
