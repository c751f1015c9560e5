package oracle

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"
)

// ID numbers a request, from 1.
type ID uint32

// Time is what the caller's clock says; its zero is the caller's too.
type Time = time.Duration

// Slack is how long the mesh may take to pass an end on that somebody chose: a
// reset or an abort must be known at the other end by then.
const Slack = 3 * time.Second

// Oracle gathers and judges.
type Oracle struct {
	now func() Time

	mu       sync.Mutex // guards the rest
	requests []*Request
	causes   []Cause
	findings []Finding
}

// New returns an oracle with the given clock.
func New(now func() Time) *Oracle { return &Oracle{now: now} }

// Finding is something that must not have happened.
type Finding struct {
	ID   ID // 0: of no request in particular
	What string
}

// String says it in one line.
func (f Finding) String() string {
	if f.ID == 0 {
		return f.What
	}
	return fmt.Sprintf("request %d: %s", f.ID, f.What)
}

// Cause excuses the requests that it covers for failing: those that were under
// way at some time between From and Until and that Covers (nil: every one) is
// true of. It never excuses wrong bytes or a second processing, and a false end
// only where FalseEnd says so: of a process that is killed the kernel ends the
// connections as if it had meant to.
type Cause struct {
	Name        string
	From, Until Time
	Covers      func(r *Request) bool
	// FalseRequestEnd: a server may take a cut request for whole; FalseResponseEnd:
	// a client may take a cut response for whole.
	FalseRequestEnd, FalseResponseEnd bool
}

// Allow adds a cause.
func (o *Oracle) Allow(c Cause) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.causes = append(o.causes, c)
}

// Reportf adds a finding of the script's own.
func (o *Oracle) Reportf(id ID, format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.reportf(id, format, args...)
}

func (o *Oracle) reportf(id ID, format string, args ...any) {
	if len(o.findings) < 100 {
		o.findings = append(o.findings, Finding{ID: id, What: fmt.Sprintf(format, args...)})
	}
}

// Request returns the request with the given number, nil when there is none.
func (o *Oracle) Request(id ID) *Request {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.find(id)
}

func (o *Oracle) find(id ID) *Request {
	if id == 0 || int(id) > len(o.requests) {
		return nil
	}
	return o.requests[id-1]
}

// Requests are all that were begun, in order.
func (o *Oracle) Requests() []*Request {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.requests)
}

// Pending is the number of requests that their clients still wait for, and of
// attempts that servers still work on.
func (o *Oracle) Pending() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for _, r := range o.requests {
		if !r.over() {
			n++
		}
		for _, a := range r.attempts {
			if !a.over() {
				n++
			}
		}
	}
	return n
}

// Judge returns everything that must not have happened. It is called once all
// that was begun should have ended.
func (o *Oracle) Judge() []Finding {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range o.requests {
		o.judge(r)
	}
	out := slices.Clone(o.findings)
	slices.SortStableFunc(out, func(a, b Finding) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// excuse is why r may fail, empty for no reason.
func (o *Oracle) excuse(r *Request) string {
	if len(r.excuses) > 0 {
		return r.excuses[0]
	}
	for i := range o.causes {
		if c := &o.causes[i]; o.covers(c, r) {
			return c.Name
		}
	}
	return ""
}

// falseEnd reports whether r's request and response may have ended as if they
// were whole.
func (o *Oracle) falseEnd(r *Request) (request, response bool) {
	for i := range o.causes {
		if c := &o.causes[i]; (c.FalseRequestEnd || c.FalseResponseEnd) && o.covers(c, r) {
			request, response = request || c.FalseRequestEnd, response || c.FalseResponseEnd
		}
	}
	return request, response
}

func (o *Oracle) covers(c *Cause, r *Request) bool {
	until := r.ended
	if !r.over() {
		until = o.now()
	}
	for _, a := range r.attempts { // a response may end before its request has
		if !a.over() {
			until = o.now()
		}
		until = max(until, a.ended)
	}
	return r.began <= c.Until && until >= c.From && (c.Covers == nil || c.Covers(r))
}
