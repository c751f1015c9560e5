package exchange

import (
	"github.com/tulle-mesh/tulle/proxy/h2"
	"github.com/tulle-mesh/tulle/proxy/head"
	"github.com/tulle-mesh/tulle/proxy/hop"
)

// ResponseInfo passes an interim response on.
func (x *Exchange) ResponseInfo(h *head.Head) {
	if !x.flags.finished && !x.flags.respHead {
		x.down.Info(h)
	}
}

// ResponseHead takes the final response's head.
func (x *Exchange) ResponseHead(h *head.Head, end bool) {
	if x.flags.finished || x.flags.respHead {
		return
	}
	x.Status = h.Status
	if x.GRPC && end {
		x.grpcStatus(h.Fields)
	}
	if x.retryResponse(h) {
		return
	}
	x.flags.respHead = true
	x.env.Wire.W.Cancel(&x.try)
	x.flags.tunnel = x.connect && h.Status/100 == 2 || x.upgrading && h.Status == 101
	if x.flags.tunnel { // a request's time is over with its answer, a tunnel's is not bounded by it
		x.env.Wire.W.Cancel(&x.deadline)
	}
	x.dir.Response(x, h)
	if (x.upgrading || x.connect) && !x.flags.tunnel {
		x.endRequest()
	}
	x.freeRequest()
	x.down.Head(h, end)
	if end {
		x.ended()
	}
}

// retryResponse asks the Director whether the response is one to try again for.
func (x *Exchange) retryResponse(h *head.Head) bool {
	if !x.flags.keep || (h.Status < 400 && x.GRPCStatus <= 0) {
		return false
	}
	f := Failure{Status: h.Status, GRPC: x.GRPCStatus, Code: h2.ErrCodeCancel}
	wait, ok := x.dir.Again(x, &f)
	if !ok {
		return false
	}
	x.GRPCStatus = -1
	x.dropUp(h2.ErrCodeCancel)
	x.backoff(wait)
	return true
}

// endRequest ends a request that asked for a tunnel and did not get it.
func (x *Exchange) endRequest() {
	x.flags.reqEnd = true
	if x.up != nil {
		x.up.Data(nil, true)
	}
}

// ResponseData takes body bytes of the response, or a tunnel's.
func (x *Exchange) ResponseData(p []byte, end bool) {
	if x.flags.finished || !x.flags.respHead {
		return
	}
	x.firstByte()
	x.moved()
	x.down.Data(p, end)
	if end && !x.flags.finished {
		x.ended()
	}
}

// ResponseTrailers ends the response with trailers, without what only proxies may
// write (rule R5.5).
func (x *Exchange) ResponseTrailers(h *head.Head) {
	if x.flags.finished || !x.flags.respHead {
		return
	}
	hop.Strip(h)
	if x.GRPC {
		x.grpcStatus(h.Fields)
	}
	x.firstByte()
	x.down.Trailers(h.Fields)
	if !x.flags.finished {
		x.ended()
	}
}

// DownDrained says that n bytes of the response left toward the downstream.
func (x *Exchange) DownDrained(n int) {
	if x.up != nil && !x.flags.finished {
		x.up.Consume(n)
	}
}

func (x *Exchange) firstByte() {
	if !x.flags.first {
		x.flags.first = true
		x.dir.First(x)
	}
}

func (x *Exchange) ended() {
	x.firstByte()
	x.flags.respEnd = true
	x.settle()
}

// grpcStatus reads the result of a call out of trailers (rule R4.7).
func (x *Exchange) grpcStatus(f []head.Field) {
	for i := range f {
		if !head.EqualFold(f[i].Name, "grpc-status") {
			continue
		}
		n := 0
		for _, c := range f[i].Value {
			if c < '0' || c > '9' || n > 100 {
				n = 2 // UNKNOWN
				break
			}
			n = n*10 + int(c-'0')
		}
		x.GRPCStatus = n
		return
	}
}
