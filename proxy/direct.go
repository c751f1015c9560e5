package proxy

import (
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/balance"
	"github.com/tulle-mesh/tulle/proxy/budget"
	"github.com/tulle-mesh/tulle/proxy/exchange"
	"github.com/tulle-mesh/tulle/proxy/head"
	"github.com/tulle-mesh/tulle/proxy/hop"
	"github.com/tulle-mesh/tulle/proxy/mtls"
	"github.com/tulle-mesh/tulle/proxy/route"
)

// maxAttempts is how often a request is tried in all (rule R7.1).
const maxAttempts = 3

// direct is a target as the Director of its requests: route, pick, open, retry.
type direct target

func (d *direct) t() *target { return (*target)(d) }

// backend is the target that x's attempt goes to.
func backend(x *exchange.Exchange) *target { return x.Att.Target.(*target) }

// Open implements exchange.Director.
func (d *direct) Open(x *exchange.Exchange) {
	t := d.t()
	if x.Att.Target == nil {
		t.retry.Request(t.s.now())
		x.Att.Target = t
		if !d.route(x) {
			return
		}
		d.deadline(x)
	}
	b := backend(x)
	b.choose(x, t.s.now().Add(t.s.p.cfg.Timeouts.Endpoint))
}

// route chooses the backend by the target's routes; false when there is none
// and the request is answered.
func (d *direct) route(x *exchange.Exchange) bool {
	t := d.t()
	name, to, ok := route.Pick(t.policy, t.s.w.Rand())
	x.Att.Route = name
	switch {
	case ok && to != t.key:
		x.Att.Target = t.s.target(to)
	case !ok && name != "":
		x.OpenFailed(exchange.Failure{Unprocessed: true, Final: true, Status: 503, Reason: "route " + name + " has no backend with a weight"})
		return false
	}
	return true
}

// deadline sets what the policy and grpc-timeout ask for (R7.4, R4.7).
func (d *direct) deadline(x *exchange.Exchange) {
	limit := d.policy.Timeouts.Request
	if x.GRPC {
		if v, ok := grpcTimeout(x.Req.Get("grpc-timeout")); ok && (limit == 0 || v < limit) {
			limit = v
		}
	}
	if limit > 0 {
		x.SetDeadline(x.Started.Add(limit))
	}
	try := d.policy.Timeouts.PerTry
	if r := d.policy.Timeouts.Response; r > 0 && (try == 0 || r < try) {
		try = r
	}
	if idle := d.policy.Timeouts.Idle; try > 0 || idle > 0 {
		x.Limits(try, idle)
	}
}

// choose picks an endpoint for x, or has it wait until one is ready.
func (t *target) choose(x *exchange.Exchange, until mono.Time) {
	t.lastUsed = t.s.now()
	e := t.pick(x)
	if e == nil {
		if !t.wait(waiter{x: x, until: until}) {
			x.OpenFailed(t.nowhere(x))
		}
		return
	}
	u := t.endpoint(e)
	if reason := t.s.denySelf(u); reason != "" {
		x.Answer(exchange.Answer{Status: 403, GRPC: 7, Reason: reason})
		return
	}
	x.Att.Endpoint = e
	x.Att.Flight = e.Start(t.s.now())
	x.Att.HTTP = u.metricsHTTP(e, x.Att.Route)
	if !x.Att.Counted {
		x.Att.Counted = true
		x.Att.HTTP.Request(t.s.now())
	} else {
		x.Att.HTTP.Retry()
	}
	p := u.poolFor(e, x.Req.Version)
	x.Att.Owner = p
	p.Open(x)
}

// pick chooses an endpoint that x has not failed on, or, when there is no
// other, one that it has.
func (t *target) pick(x *exchange.Exchange) *balance.Endpoint {
	if !t.resolved() {
		return nil
	}
	now := t.s.now()
	if e := x.Att.Endpoint; x.Att.Same && e != nil && !e.Gone() {
		x.Att.Same = false
		return e
	}
	n := 0
	for n < len(x.Att.Tried) && x.Att.Tried[n] != nil {
		n++
	}
	if e, ok := t.bal.Pick(now, x.Att.Tried[:n]); ok {
		return e
	}
	if n > 0 {
		if e, ok := t.bal.Pick(now, nil); ok {
			return e
		}
	}
	return nil
}

// Cancel implements exchange.Director.
func (d *direct) Cancel(x *exchange.Exchange) {
	if p, ok := x.Att.Owner.(pool); ok {
		p.Cancel(x)
		x.Att.Owner = nil
	}
	t := d.t()
	if b, ok := x.Att.Target.(*target); ok {
		t = b
	}
	for i := range t.waiting {
		if t.waiting[i].x == x {
			t.waiting = append(t.waiting[:i], t.waiting[i+1:]...)
			return
		}
	}
}

// Again implements exchange.Director.
func (d *direct) Again(x *exchange.Exchange, f *exchange.Failure) (time.Duration, bool) {
	if f.Final {
		return 0, false
	}
	t := d.t()
	if f.Replace && !x.Att.Replaced { // R3.5: unseen, on the same endpoint, for free
		x.Att.Replaced, x.Att.Same = true, true
		x.Att.Flight.Done(t.s.now(), balance.Outcome{Result: balance.Cancelled})
		x.Attempts--
		return 0, true
	}
	if t.s.p.cfg.DisableRetries || x.Attempts >= d.attempts() || !d.retryable(x, f) {
		return 0, false
	}
	now := t.s.now()
	if !t.retry.Withdraw(now) {
		t.s.store.Proxy.RetryBudgetExhausted++
		return 0, false
	}
	d.ended(x, f)
	if n := x.Attempts - 1; n >= 0 && n < len(x.Att.Tried) {
		x.Att.Tried[n] = x.Att.Endpoint
	}
	if f.Unprocessed && backend(x).bal.Len() > 1 {
		return 0, true
	}
	return max(budget.Backoff(t.s.w.Rand(), x.Attempts), time.Millisecond), true
}

func (d *direct) attempts() int {
	if n := d.policy.Retry.Attempts; n > 0 {
		return int(n)
	}
	return maxAttempts
}

// retryable reports whether the rules allow another attempt (R7.1, R7.2).
func (d *direct) retryable(x *exchange.Exchange, f *exchange.Failure) bool {
	if f.Unprocessed {
		return true
	}
	r := &d.policy.Retry
	if !r.AnyMethod && !x.Idempotent() {
		return false
	}
	switch {
	case f.Status == 0:
		return r.ConnectFailure
	case x.GRPC && f.GRPC >= 0:
		return slices.Contains(r.GRPC, f.GRPC)
	}
	return slices.Contains(r.Statuses, f.Status)
}

// Failed implements exchange.Director.
func (d *direct) Failed(x *exchange.Exchange, f *exchange.Failure) { d.ended(x, f) }

// ended tells the balancer how an attempt failed.
func (d *direct) ended(x *exchange.Exchange, f *exchange.Failure) {
	s := d.s
	now := s.now()
	x.Att.Owner = nil
	if x.Att.Endpoint == nil {
		return
	}
	o := balance.Failure(balance.CauseReset, 0)
	var verify *mtls.VerifyError
	switch {
	case errors.As(f.Err, &verify):
		o.Cause = balance.CauseIdentity
		s.p.report(backend(x).key, x.Att.Endpoint.Addr, f.Err)
	case f.Connect:
		o.Cause = balance.CauseConnect
		s.p.report(backend(x).key, x.Att.Endpoint.Addr, f.Err)
	case f.Timeout:
		o.Cause = balance.CauseTimeout
	case f.Status != 0 && !f.Unprocessed:
		o.Cause = balance.CauseStatus
	case f.Unprocessed:
		o = balance.Outcome{Result: balance.Cancelled} // GOAWAY: says nothing of its health
	}
	if f.Timeout {
		s.timedOut(f)
	}
	x.Att.Flight.Done(now, o)
}

// Response implements exchange.Director.
func (d *direct) Response(x *exchange.Exchange, h *head.Head) {
	reason := h.Get(hop.FieldError)
	meshed := x.Att.Endpoint != nil && d.t().endpointSecure(x)
	hop.Strip(h)
	if reason != nil && (meshed || x.Answered()) {
		h.Add([]byte(hop.FieldError), reason)
	}
	if x.Answered() {
		return
	}
	switch h.Status {
	case 502, 503, 504:
		x.Att.Flight.Done(d.s.now(), balance.Failure(balance.CauseStatus, retryAfter(h)))
	}
}

func (*target) endpointSecure(x *exchange.Exchange) bool {
	u, ok := x.Att.Endpoint.User.(*endpoint)
	return ok && u.secure()
}

// retryAfter reads a delay in seconds; dates are not honoured.
func retryAfter(h *head.Head) time.Duration {
	n, err := strconv.Atoi(string(h.Get("retry-after")))
	if err != nil || n < 0 {
		return 0
	}
	return time.Duration(n) * time.Second
}

// First implements exchange.Director.
func (d *direct) First(x *exchange.Exchange) { x.Att.Flight.FirstData(d.s.now()) }

// Finished implements exchange.Director.
func (d *direct) Finished(x *exchange.Exchange, r exchange.Result) {
	s := d.s
	now := s.now()
	o := balance.Outcome{}
	switch {
	case r == exchange.Cancelled:
		o.Result = balance.Cancelled
	case r == exchange.Cut:
		o = balance.Failure(balance.CauseReset, 0)
	case x.GRPC && x.GRPCStatus == 14:
		o = balance.Failure(balance.CauseUnavailable, 0)
	}
	x.Att.Flight.Done(now, o)
	if x.Att.HTTP == nil {
		b := d.t()
		if t, ok := x.Att.Target.(*target); ok {
			b = t
		}
		x.Att.HTTP = s.store.HTTP(b.labels(nil, nil, x.Att.Route), now)
		x.Att.HTTP.Request(now)
	}
	s.responded(x, r)
}

// Where implements exchange.Director.
func (d *direct) Where(x *exchange.Exchange) string {
	w := "outbound " + d.t().name()
	if b, ok := x.Att.Target.(*target); ok && b != d.t() {
		w += ": backend " + b.name()
	}
	if e := x.Att.Endpoint; e != nil {
		w += ": endpoint " + e.Addr.String()
	}
	return w
}

// maxGRPCTimeout is 146 years: longer is as good as that, and a Duration holds no more than twice as much.
const maxGRPCTimeout = time.Duration(1) << 62

// grpcTimeout reads a grpc-timeout: at most 8 digits and a unit (gRPC over HTTP/2, "Requests").
func grpcTimeout(v []byte) (time.Duration, bool) {
	if len(v) < 2 || len(v) > 9 {
		return 0, false
	}
	n, err := strconv.ParseUint(string(v[:len(v)-1]), 10, 32)
	if err != nil {
		return 0, false
	}
	var unit time.Duration
	switch v[len(v)-1] {
	case 'H':
		unit = time.Hour
	case 'M':
		unit = time.Minute
	case 'S':
		unit = time.Second
	case 'm':
		unit = time.Millisecond
	case 'u':
		unit = time.Microsecond
	case 'n':
		unit = time.Nanosecond
	default:
		return 0, false
	}
	if n > uint64(maxGRPCTimeout/unit) {
		return maxGRPCTimeout, true
	}
	return max(time.Duration(n)*unit, 1), true // 0 is over at once, not "none"
}
