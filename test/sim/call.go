package sim

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/tulle-mesh/tulle/test/oracle"
)

// protocol of a call.
type protocol uint8

const (
	protoH1 protocol = iota
	protoH2
	protoTCP
)

// stall is a reader that stops for a while.
type stall struct {
	at int64 // after so many bytes; negative: never
	d  time.Duration
}

// call is one request or tunnel, as the script wants it; the server looks up
// there what to do.
type call struct {
	s   *Sim
	r   *oracle.Request
	c   *client
	svc *service
	// direct is whom a client outside the mesh dials.
	direct *server
	proto  protocol
	port   uint16

	method   string
	upgrade  bool // Upgrade or CONNECT: a tunnel after the heads
	grpc     bool
	old      bool // HTTP/1.0
	absolute bool // absolute form
	status   int
	info     int  // interim responses
	early    bool // the response begins at the request's head
	think    time.Duration
	delay    time.Duration // of the server, before it answers

	req, resp           int64
	reqFrame, respFrame framing
	reqTrail, respTrail []field
	reqFields           []field // as they were sent
	respFields          []field
	chunk               int
	gap                 time.Duration // between the pieces of bodies

	abortAt             int64         // the client gives up after so many bytes of the request; negative: never
	abortGot            int64         // or of the response
	resetAt             int64         // the server breaks off after so many bytes of the response; negative: never
	code                uint32        // of resets over HTTP/2
	politely            bool          // who breaks off over HTTP/1 does so by a FIN: the framing tells
	finLast             bool          // tunnels: the client ends its direction only after the server's has ended
	eofFirst            bool          // tunnels: the server answers only after the client's direction has ended
	heavy               bool          // a long body whose reader stops early on
	padded              bool          // HTTP/2: all of its DATA has as much padding as there is
	deaf                time.Duration // HTTP/2: its client reads nothing for so long
	half                bool          // the client half-closes after its last request
	slow                bool          // it takes long on purpose
	patience            time.Duration // gRPC: its deadline; 0: none
	lies                bool          // its application writes fields that are the mesh's
	falseLength         int64         // HTTP/2: what the request announces is so much off
	expect              bool          // the body waits for 100 Continue
	close               bool          // the server closes its connection after the response
	refuseAt            int64         // bytes of the request that come first
	refuse              int           // HTTP/2: the server refuses it so many times
	stallReq, stallResp stall

	beganAt    oracle.Time
	sentReq    int64 // how far the bodies came at their senders
	sentResp   int64
	excuse     string // for failing
	reason     string // phrase of the response
	sentCode   uint32 // of the client's reset
	broken     bool   // the server has reset it
	brokenCode uint32
}

// to is what the call's client dials.
func (c *call) to() netip.AddrPort {
	if c.direct != nil {
		return c.s.rowAddr(c.direct, c.port)
	}
	return c.s.dialled(c.svc, c.port)
}

// mayReach reports whether v is one of those that the call may end up at.
func (c *call) mayReach(v *server) bool {
	if c.direct != nil {
		return c.direct == v
	}
	return slices.ContainsFunc(c.s.backends(c.svc), func(b *service) bool { return slices.Contains(b.servers, v) })
}

// number is the request's, as fields carry it.
func (c *call) number() string { return strconv.Itoa(int(c.r.ID)) }

// marker is what no byte between two proxies may contain under TLS.
const marker = "oracle-marker"

func (c *call) path() string { return "/" + marker + "/" + c.number() }

// plan tells the oracle of the call, which begins now.
func (c *call) begin() {
	p := oracle.Plan{
		Name: c.name(), Tunnel: c.upgrade || c.proto == protoTCP,
		Request: c.req, Response: c.resp,
		RequestTrailers: line(c.reqTrail, c.proto == protoH2), ResponseTrailers: line(c.respTrail, c.proto == protoH2),
		Status: c.status, Interim: c.info, User: c, MayRepeat: c.mayRepeat(),
	}
	if c.proto == protoTCP {
		p.Status = 0
	}
	if c.expect {
		p.Interim++
	}
	c.beganAt = c.s.now()
	c.s.last = max(c.s.last, c.s.W.Now())
	c.s.todo--
	c.r = c.s.O.Begin(p)
	c.s.calls = append(c.s.calls, c)
	c.s.note("begin", uint64(c.r.ID))
	if c.s.log != nil {
		c.s.log("   %s %s", c.name(), c.describe())
	}
	if c.excuse != "" {
		c.r.Excusef("%s", c.excuse)
	}
	if c.direct != nil && c.refuse > 0 {
		c.r.Excusef("it is refused, and no proxy stands beside its client that would try again")
	}
	if c.falseLength != 0 {
		c.r.Excusef("its length is a lie")
	}
	if c.patience > 0 {
		c.r.Excusef("it has a deadline")
	}
	if c.resetAt >= 0 {
		c.r.Excusef("the server is told to break off")
	}
	if c.c.killed {
		c.r.Excusef("the client's proxy was killed")
	}
}

// describe is the call in a line, for a replay.
func (c *call) describe() string {
	return fmt.Sprintf("%s->svc%d:%d req=%d/%d+%d resp=%d/%d+%d status=%d early=%v old=%v chunk=%d gap=%v delay=%v abort=%d/%d reset=%d finLast=%v eofFirst=%v close=%v stall=%v/%v",
		c.c.name, c.svc.index, c.port, c.req, c.reqFrame, len(c.reqTrail), c.resp, c.respFrame, len(c.respTrail), c.status, c.early, c.old, c.chunk, c.gap,
		c.delay, c.abortAt, c.abortGot, c.resetAt, c.finLast, c.eofFirst, c.close, c.stallReq, c.stallResp)
}

func (c *call) name() string {
	switch {
	case c.proto == protoTCP:
		return "tunnel to port " + strconv.Itoa(int(c.port))
	case c.proto == protoH2 && c.grpc:
		return c.method + " over gRPC"
	case c.proto == protoH2:
		return c.method + " over HTTP/2"
	case c.upgrade:
		return c.method + " upgrade"
	}
	return c.method + " over HTTP/1"
}

func (c *call) mayRepeat() bool {
	r := &c.svc.retry
	if len(r.Statuses) == 0 && !r.ConnectFailure && len(r.GRPC) == 0 {
		return false
	}
	switch c.method {
	case "GET", "HEAD", "PUT", "DELETE", "OPTIONS":
		return true
	}
	return r.AnyMethod
}

// lie appends fields that only the mesh may write (R5.5).
func (c *call) lie(fs []field) []field {
	if !c.lies {
		return fs
	}
	return append(slices.Clip(fs), field{"tulle-hop", "unprocessed"}, field{"tulle-proxy-error", "a lie"}, field{"tulle_x", "1"})
}

// lieTrail is lie for trailers, which there are.
func (c *call) lieTrail(fs []field) []field {
	if !c.lies || len(fs) == 0 {
		return fs
	}
	return append(slices.Clip(fs), field{"tulle-client-id", "liar"})
}

// find returns the call that a server's request says it is.
func (s *Sim) find(id string) *call {
	n, err := strconv.Atoi(id)
	if err != nil || n < 1 || n > len(s.calls) {
		return nil
	}
	return s.calls[n-1]
}
