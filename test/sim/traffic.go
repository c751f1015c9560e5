package sim

import (
	"time"

	"github.com/tulle-mesh/tulle/internal/mono"
)

// traffic schedules the sessions: connections with one call or several.
func (s *Sim) traffic() {
	for range s.o.sessions {
		at := s.W.Now().Add(s.o.shift + 5*time.Millisecond + s.upTo(s.o.span))
		if s.o.shortLeaf && s.one(2) { // when the hops of short-lived certificates are drained
			at = at.Add(shortLeaf - 2*time.Second + s.upTo(2*time.Second))
		}
		s.last = max(s.last, at)
		c := s.clients[s.rng.IntN(len(s.clients))]
		svc := s.services[s.rng.IntN(len(s.services))]
		s.session(at, c, svc, of(s, s.o.protocols...))
	}
}

func (s *Sim) session(at mono.Time, c *client, svc *service, proto protocol) {
	n := 1
	switch {
	case proto == protoTCP:
	case svc.weights != nil && s.one(2):
		n = 13
	case s.one(3):
		n = 1 + s.rng.IntN(12)
	default:
		n = 1 + s.rng.IntN(4)
	}
	var direct *server
	if s.one(8) {
		c, direct = s.outsider, of(s, svc.servers...)
	}
	var calls []*call
	for range n {
		k := s.newCall(c, svc, proto)
		k.direct = direct
		calls = append(calls, k)
	}
	switch proto {
	case protoTCP:
		k := &tunnelClient{s: s, call: calls[0]}
		s.W.At(at, k.start)
	case protoH2:
		if s.o.budget == 0 && s.calm() && !s.o.script.Has(KindDrain) && s.one(5) {
			s.todo -= len(calls)
			calls = s.unwanted(c, svc, direct)
		}
		k := newH2Client(s, c, calls)
		s.W.At(at, k.start)
	default:
		k := &h1Client{s: s, c: c, calls: calls, pipeline: 1, shy: s.shy()}
		if s.one(5) {
			k.pipeline = 2 + s.rng.IntN(4)
			if n > 1 {
				s.Kinds.add(KindPipeline)
			}
		}
		s.W.At(at, k.start)
	}
}

// unwanted are uploads that their server breaks off at once, and whose client hears
// of it late: all that they sent meanwhile is thrown away, but its credit is the
// connection's and must come back (RFC 9113, 6.9).
func (s *Sim) unwanted(c *client, svc *service, direct *server) (calls []*call) {
	s.Kinds.add(KindUnwanted)
	chunk, gap, padded := 16000, 200*time.Microsecond, false
	if !s.o.plain && s.one(3) {
		chunk, gap, padded = 250, 20*time.Microsecond, true
	}
	for range 22 {
		s.todo++
		calls = append(calls, &call{
			s: s, c: c, svc: svc, direct: direct, proto: protoH2, port: portHTTP, method: "POST", status: 200, abortAt: -1, abortGot: -1, early: true, respFrame: framingLength,
			req: 64000, chunk: chunk, gap: gap, padded: padded, code: 8, deaf: 10 * time.Millisecond,
			stallReq: stall{at: -1}, stallResp: stall{at: -1},
		})
	}
	return calls
}

// shy draws for how long a client is silent once it is connected: often for about
// as long as a proxy waits for its first byte (R2.5).
func (s *Sim) shy() time.Duration {
	if s.o.plain || !s.one(5) {
		return 0
	}
	return 9*time.Millisecond + s.upTo(6*time.Millisecond)
}

// size draws the length of a body.
func (s *Sim) size() int64 {
	switch s.rng.IntN(8) {
	case 0, 1:
		return 0
	case 2:
		return 1
	case 3:
		return of[int64](s, 16<<10, 64<<10) + int64(s.rng.IntN(3)) - 1
	case 4:
		if s.o.script.Has(KindLarge) {
			s.Kinds.add(KindLarge)
			return 1<<20 - int64(s.rng.IntN(1000))
		}
		return int64(s.rng.IntN(100 << 10))
	}
	return int64(s.rng.IntN(3000))
}

func (s *Sim) newCall(c *client, svc *service, proto protocol) *call {
	s.todo++
	k := &call{
		s: s, c: c, svc: svc, proto: proto, port: portHTTP, method: "GET", status: 200, abortAt: -1, abortGot: -1, resetAt: -1,
		req: s.size(), resp: s.size(), chunk: of(s, 300, 4<<10, 16<<10, 60<<10), stallReq: stall{at: -1}, stallResp: stall{at: -1},
		delay: s.upTo(of(s, 50*time.Microsecond, 2*time.Millisecond, 30*time.Millisecond)),
		think: s.upTo(of(s, 10*time.Microsecond, time.Millisecond, 40*time.Millisecond)),
	}
	if s.one(4) {
		k.gap = of(s, 50*time.Microsecond, 500*time.Microsecond)
		if n := max(k.req, k.resp) / 40; int64(k.chunk) < n {
			k.chunk = int(n)
		}
	}
	switch proto {
	case protoTCP:
		s.Kinds.add(KindTunnel)
		k.port = of(s, ports[1:]...)
		k.method = "TCP"
		k.finLast, k.eofFirst = s.one(4), false
		if !k.finLast {
			k.eofFirst = s.one(2)
		}
	case protoH2:
		s.Kinds.add(KindHTTP2)
		s.drawH2(k)
	case protoH1:
		s.Kinds.add(KindHTTP1)
		s.drawH1(k)
	}
	s.drawTrouble(k)
	if s.o.tries && proto != protoTCP && !k.slow && k.req == 0 && k.resp > 100 && k.resetAt < 0 && k.abortGot < 0 && k.patience == 0 && s.one(3) {
		k.slow, k.stallResp = true, stall{at: -1} // the response, longer than an attempt may take to begin
		k.gap, k.chunk = longest/10, int(k.resp/20)
	}
	if s.o.shortLeaf && s.one(2) && max(k.req, k.resp) > 40 { // still under way then
		k.gap, k.chunk = 500*time.Millisecond, int(max(k.req, k.resp)/30)
		k.stallReq, k.stallResp = stall{at: -1}, stall{at: -1}
	}
	return k
}

func (s *Sim) drawMethod(k *call) {
	k.method = of(s, "GET", "GET", "POST", "POST", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS")
	k.status = of(s, 200, 200, 200, 200, 201, 404, 500, 204, 304)
	if k.status == 204 || k.status == 304 || k.method == "HEAD" {
		k.resp = 0
	}
	if k.method == "GET" || k.method == "HEAD" {
		k.req = 0
	}
	k.info = of(s, 0, 0, 0, 0, 1, 2)
	k.early = s.one(5)
}

func (s *Sim) drawH1(k *call) {
	if s.one(8) {
		s.Kinds.add(KindUpgrade)
		k.upgrade, k.status = true, 101
		k.finLast = s.one(3)
		k.eofFirst = !k.finLast && s.one(3)
		if s.one(3) {
			k.method, k.status = "CONNECT", 200
		}
		if n := max(k.req, k.resp); s.o.limits && n > 100 && s.one(2) { // longer than a request may take
			k.slow = true
			k.gap, k.chunk = longest/10, int(n/30)
		}
		return
	}
	s.drawMethod(k)
	k.absolute = s.one(10)
	k.reqFrame = of(s, framingLength, framingChunked)
	if k.req == 0 && s.one(2) || k.method == "GET" || k.method == "HEAD" {
		k.req, k.reqFrame = 0, framingNone
	}
	k.respFrame = of(s, framingLength, framingLength, framingChunked, framingChunked, framingClose)
	if s.one(8) && k.reqFrame != framingChunked {
		k.old, k.info = true, 0
		if k.respFrame == framingChunked {
			k.respFrame = framingLength
		}
	}
	if k.status == 204 || k.status == 304 {
		k.respFrame = framingNone
	}
	if k.respFrame == framingClose {
		k.early = false
	}
	k.half = s.one(8)
	if k.reqFrame == framingChunked && s.one(3) {
		k.reqTrail = []field{{"X-Sum", "12"}, {"x-LAST", "34 56"}}
	}
	if k.respFrame == framingChunked && k.method != "HEAD" && s.one(3) {
		k.respTrail = []field{{"x-suM", "ab"}, {"X-Sum", "cd"}}
	}
	if len(k.reqTrail)+len(k.respTrail) > 0 {
		s.Kinds.add(KindTrailers)
	}
	k.close = s.one(15) || k.early && s.one(4)
	if k.early && k.close {
		s.Kinds.add(KindTurnedAway)
	}
	k.expect = k.req > 0 && !k.early && !k.old && s.one(6)
	s.drawLies(k)
}

func (s *Sim) drawH2(k *call) {
	k.code = of[uint32](s, 8, 2, 11)
	if s.one(10) {
		s.Kinds.add(KindConnect)
		k.upgrade, k.method, k.status, k.eofFirst = true, "CONNECT", 200, s.one(3)
		return
	}
	s.drawMethod(k)
	if s.one(3) {
		s.Kinds.add(KindGRPC)
		k.grpc, k.method, k.status = true, "POST", 200
		if s.one(8) {
			s.Kinds.add(KindDeadline)
			k.patience = of(s, 5*time.Millisecond, 50*time.Millisecond)
			if s.one(2) {
				k.delay = 3 * k.patience
			}
		}
		k.respTrail = []field{{"grpc-status", of(s, "0", "0", "0", "5")}, {"grpc-message", "fine"}}
	} else {
		if k.req > 0 && s.one(4) {
			k.reqTrail = []field{{"x-sum", "12"}}
		}
		if k.resp > 0 && s.one(4) {
			k.respTrail = []field{{"x-sum", "ab"}, {"x-sum", "cd"}}
		}
	}
	k.reqFrame = of(s, framingLength, framingNone)
	k.respFrame = of(s, framingLength, framingNone)
	k.expect = k.req > 0 && !k.early && !k.grpc && s.one(6)
	if !s.o.plain && k.req > 0 && s.one(15) { // more padding than its stream's window has room for
		k.padded, k.req, k.chunk, k.gap = true, 60_000, 100, 0
	}
	s.drawLies(k)
	if k.req > 1 && !k.grpc && !k.expect && !k.early && s.one(12) {
		k.falseLength = of[int64](s, -1, 1, 1000)
	}
	if len(k.reqTrail)+len(k.respTrail) > 0 {
		s.Kinds.add(KindTrailers)
	}
}

// A heavy body, and where its reader stops.
const (
	heavy      = 3 << 19
	heavyStall = 64 << 10
)

// makeHeavy has a long body meet a reader that stops early on; false where the
// call cannot have one, or buffers hide it.
func (s *Sim) makeHeavy(k *call) bool {
	if s.o.limits || s.buffers() > 128<<10 || k.method == "HEAD" || k.abortAt >= 0 || k.abortGot >= 0 || k.resetAt >= 0 || k.eofFirst || k.early && k.close {
		return false
	}
	st := stall{s.rng.Int64N(heavyStall), 500 * time.Millisecond}
	size := int64(heavy)
	if k.proto == protoTCP && s.o.tls || s.one(3) { // the last of it waits in buffers, to be read on without any news
		size = s.buffers() + 130<<10 + s.rng.Int64N(200<<10)
	}
	switch {
	case k.resp > 0:
		k.resp, k.stallResp = size, st
	case k.req > 0 && k.falseLength == 0:
		k.req, k.stallReq = size, st
	default:
		return false
	}
	k.heavy, k.gap, k.chunk = true, 0, 60<<10
	return true
}

// drawLies has an application write what only the mesh may.
func (s *Sim) drawLies(k *call) {
	if k.lies = s.one(6); k.lies {
		s.Kinds.add(KindLie)
	}
	if k.expect {
		s.Kinds.add(KindContinue)
	}
}

// drawTrouble has a call's own client or server misbehave, or be slow.
func (s *Sim) drawTrouble(k *call) {
	part := func(n int64) int64 {
		if n <= 1 {
			return 0
		}
		return s.rng.Int64N(n)
	}
	has := s.o.script.Has
	switch {
	case has(KindAbort) && s.one(4) && k.method != "HEAD":
		s.Kinds.add(KindAbort)
		if k.req > 1 && s.one(2) {
			k.abortAt = part(k.req - 1)
		} else if k.resp > 1 {
			k.abortGot = part(k.resp)
			if k.req <= k.resp && s.one(2) { // in the middle of a long one: its server must learn of it
				k.gap, k.chunk, k.abortGot = 600*time.Millisecond, int(k.resp/20+1), part(k.resp/4)
			}
		}
	case has(KindBreak) && s.one(3) && !k.early && k.method != "HEAD":
		s.Kinds.add(KindBreak)
		k.resetAt = part(k.resp)
	}
	k.politely = k.proto == protoH1 && !k.upgrade && k.respFrame != framingClose && s.one(2)
	if has(KindStall) && (has(KindLarge) && s.one(3) || k.proto == protoTCP && s.o.tls && s.one(2)) && s.makeHeavy(k) {
		return
	}
	if has(KindStall) && s.one(2) {
		d := 20*time.Millisecond + s.upTo(300*time.Millisecond)
		if k.req > 2000 && s.one(2) {
			k.stallReq = stall{part(k.req), d}
		} else if k.resp > 2000 {
			k.stallResp = stall{part(k.resp), d}
		}
	}
	if has(KindRefuse) && k.proto == protoH2 && s.one(3) {
		k.refuse = 1
		if k.req > 0 && !k.early && !k.upgrade && s.one(2) { // later than a proxy keeps the body, perhaps
			k.refuseAt = part(k.req)
		}
		if k.req > kept { // more may have been sent than is kept, when the refusal comes (R7.1)
			k.excuse = "refused after more than is kept"
		}
	}
}
