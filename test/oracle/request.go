package oracle

import "fmt"

// Plan is what a request is to be, and what becomes of it when nothing befalls it.
type Plan struct {
	// Name is what findings call it: "POST over HTTP/1".
	Name string
	// Tunnel: bytes both ways, each direction with an end of its own.
	Tunnel bool
	// Request and Response are the lengths of the two bodies in bytes. AnyResponse
	// is for a response without a planned end: its client will abort it.
	Request, Response int64
	AnyResponse       bool
	// RequestTrailers and ResponseTrailers are what must arrive, in one line each.
	RequestTrailers, ResponseTrailers string
	// Status is the response's; 0 for a tunnel without a head.
	Status int
	// Interim responses come before the final one.
	Interim int
	// MayRepeat: a policy of the mesh may have it processed again after an attempt
	// failed.
	MayRepeat bool
	// User is the script's.
	User any
}

// End is how a direction ended for its receiver.
type End uint8

// Ends.
const (
	Open  End = iota // not yet
	Clean            // as its sender meant it, the receiver must think
	Cut              // broken off
)

// flow is one direction of a request as its receiver sees it.
type flow struct {
	key      Key
	want     int64
	any      bool // no planned length
	got      int64
	end      End
	at       Time // of the end
	trailers string
	wrong    bool // reported already
}

// sent is what the sender of a direction did.
type sent struct {
	ended bool
	reset bool
	at    Time // of the reset
}

// Request is one request, as its client tells of it.
type Request struct {
	ID   ID
	Plan Plan

	o            *Oracle
	began, ended Time
	sent         sent // of the request
	resp         flow
	status       int
	echoed       bool // the response came from a server
	answer       string
	interim      int
	attempts     []*Attempt
	excuses      []string
	failed       string // how it ended, when not with a whole response
}

// Attempt is one arrival of a request at a server.
type Attempt struct {
	r       *Request
	Server  string
	began   Time
	req     flow
	sent    sent // of the response
	refused bool
	done    bool
	// refusedTunnel: the end of the request says nothing.
	refusedTunnel bool
	ended         Time
}

// Begin numbers a request. Its client sends now.
func (o *Oracle) Begin(p Plan) *Request {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := &Request{ID: ID(len(o.requests) + 1), Plan: p, o: o, began: o.now()}
	r.resp = flow{key: ResponseKey(r.ID), want: p.Response, any: p.AnyResponse}
	o.requests = append(o.requests, r)
	return r
}

// Excusef holds a cause for this very request.
func (r *Request) Excusef(format string, args ...any) {
	r.o.mu.Lock()
	defer r.o.mu.Unlock()
	r.excuses = append(r.excuses, fmt.Sprintf(format, args...))
}

// Fill writes bytes of the request's body from position off into p.
func (r *Request) Fill(p []byte, off int64) { Fill(p, RequestKey(r.ID), off) }

// SentEnd says that the client has sent all, and the end.
func (r *Request) SentEnd() {
	r.o.mu.Lock()
	defer r.o.mu.Unlock()
	r.sent.ended = true
}

// Abort says that the client resets the request now, by its own will, and
// listens no more.
func (r *Request) Abort() {
	r.o.mu.Lock()
	defer r.o.mu.Unlock()
	r.sent.reset, r.sent.at = true, r.o.now()
	r.excuses = append(r.excuses, "the client gave up")
	r.finish("aborted") // unless the response was whole before
}

// Status says that a response's head has come. from is the request that the
// server said it answers, 0 when the response is the mesh's own; why is the
// mesh's reason then.
func (r *Request) Status(status int, from ID, why string) {
	r.o.mu.Lock()
	defer r.o.mu.Unlock()
	if from != 0 && from != r.ID {
		r.o.reportf(r.ID, "the response belongs to request %d", from)
	}
	if r.status != 0 {
		r.o.reportf(r.ID, "a second response, %d after %d", status, r.status)
	}
	r.status, r.echoed, r.answer = status, from != 0, why
	if from == 0 {
		r.resp.want, r.resp.any = 0, false
	}
}

// Interim says that an interim response has come.
func (r *Request) Interim() {
	r.o.mu.Lock()
	defer r.o.mu.Unlock()
	if r.status != 0 {
		r.o.reportf(r.ID, "an interim response after the final one")
	}
	r.interim++
}

// Receive takes bytes of the response.
func (r *Request) Receive(p []byte) {
	r.o.mu.Lock()
	defer r.o.mu.Unlock()
	r.o.receive(r.ID, &r.resp, p, "response")
}

// Trailers takes the response's trailers.
func (r *Request) Trailers(line string) {
	r.o.mu.Lock()
	defer r.o.mu.Unlock()
	r.resp.trailers = line
}

// End says that the response ended as if it were whole.
func (r *Request) End() {
	r.o.mu.Lock()
	defer r.o.mu.Unlock()
	r.o.end(r.ID, &r.resp, Clean)
	r.finish("")
}

// Cut says that the response, or the wait for one, was broken off.
func (r *Request) Cut(how string) {
	r.o.mu.Lock()
	defer r.o.mu.Unlock()
	r.o.end(r.ID, &r.resp, Cut)
	r.finish(how)
}

func (r *Request) over() bool { return r.ended != 0 }

func (r *Request) finish(how string) {
	if !r.over() {
		r.ended, r.failed = max(r.o.now(), 1), how
	}
}

// Plain reports whether the request went as planned: one server, which took all
// of it, one response, which came whole, and no cause for anything else.
func (r *Request) Plain() bool {
	r.o.mu.Lock()
	defer r.o.mu.Unlock()
	return r.over() && r.failed == "" && len(r.excuses) == 0 && len(r.attempts) == 1 && r.attempts[0].req.end == Clean && r.resp.end == Clean
}

// Over reports whether the client waits no more.
func (r *Request) Over() bool {
	r.o.mu.Lock()
	defer r.o.mu.Unlock()
	return r.over()
}

// Servers are where the request arrived, in order.
func (r *Request) Servers() []string {
	r.o.mu.Lock()
	defer r.o.mu.Unlock()
	return r.servers()
}

func (r *Request) servers() []string {
	s := make([]string, len(r.attempts))
	for i, a := range r.attempts {
		s[i] = a.Server
	}
	return s
}

// Arrive says that a request's head, or a tunnel's first bytes, reached a server.
func (o *Oracle) Arrive(id ID, server string) *Attempt {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := o.find(id)
	if r == nil {
		o.reportf(0, "server %s got a request with number %d, which nobody sent", server, id)
		r = &Request{o: o, ID: id}
	}
	a := &Attempt{r: r, Server: server, began: o.now()}
	a.req = flow{key: RequestKey(id), want: r.Plan.Request}
	r.attempts = append(r.attempts, a)
	return a
}

// Request is what arrived.
func (a *Attempt) Request() *Request { return a.r }

// Fill writes bytes of the response's body from position off into p.
func (a *Attempt) Fill(p []byte, off int64) { Fill(p, ResponseKey(a.r.ID), off) }

// Refuse says that the server tells its client that it has not processed this.
func (a *Attempt) Refuse() {
	a.r.o.mu.Lock()
	defer a.r.o.mu.Unlock()
	a.refused = true
	a.finish()
}

// Answer says what the server answers: it may be something else than planned,
// and another attempt something else again.
func (a *Attempt) Answer(status int, length int64, trailers string) {
	a.r.o.mu.Lock()
	defer a.r.o.mu.Unlock()
	p := &a.r.Plan
	p.Status, p.Response, p.ResponseTrailers = status, length, trailers
	if a.r.resp.end == Open && a.r.resp.got == 0 {
		a.r.resp.want = length
	}
}

// NoTunnel says that the server refuses the tunnel that the request asked for:
// nothing of it follows.
func (a *Attempt) NoTunnel() {
	a.r.o.mu.Lock()
	defer a.r.o.mu.Unlock()
	a.req.want, a.refusedTunnel = 0, true
}

// Receive takes bytes of the request's body.
func (a *Attempt) Receive(p []byte) {
	a.r.o.mu.Lock()
	defer a.r.o.mu.Unlock()
	a.r.o.receive(a.r.ID, &a.req, p, "request")
}

// Enough says that the server has answered and wants no more of the request.
func (a *Attempt) Enough() {
	a.r.o.mu.Lock()
	defer a.r.o.mu.Unlock()
	a.refusedTunnel = true
	a.finish()
}

// Received is how many bytes of the request's body have come.
func (a *Attempt) Received() int64 {
	a.r.o.mu.Lock()
	defer a.r.o.mu.Unlock()
	return a.req.got
}

// Trailers takes the request's trailers.
func (a *Attempt) Trailers(line string) {
	a.r.o.mu.Lock()
	defer a.r.o.mu.Unlock()
	a.req.trailers = line
}

// End says that the request ended as if it were whole.
func (a *Attempt) End() {
	a.r.o.mu.Lock()
	defer a.r.o.mu.Unlock()
	a.r.o.end(a.r.ID, &a.req, Clean)
	a.settle()
}

// SentEnd says that the server has sent the whole response.
func (a *Attempt) SentEnd() {
	a.r.o.mu.Lock()
	defer a.r.o.mu.Unlock()
	a.sent.ended = true
	a.settle()
}

// Reset says that the server breaks the response off now, by its own will.
func (a *Attempt) Reset() {
	a.r.o.mu.Lock()
	defer a.r.o.mu.Unlock()
	if !a.sent.reset {
		a.sent.reset, a.sent.at = true, a.r.o.now()
		a.r.excuses = append(a.r.excuses, "the server broke off")
	}
	a.finish()
}

// Cut says that the server was told that its client is gone.
func (a *Attempt) Cut() {
	a.r.o.mu.Lock()
	defer a.r.o.mu.Unlock()
	a.r.o.end(a.r.ID, &a.req, Cut)
	a.finish()
}

// Over reports whether the server is done with it.
func (a *Attempt) Over() bool {
	a.r.o.mu.Lock()
	defer a.r.o.mu.Unlock()
	return a.over()
}

func (a *Attempt) over() bool { return a.done }

func (a *Attempt) settle() {
	if a.sent.ended && a.req.end != Open {
		a.finish()
	}
}

func (a *Attempt) finish() {
	if !a.done {
		a.done, a.ended = true, a.r.o.now()
	}
}

// receive compares bytes with what must come.
func (o *Oracle) receive(id ID, f *flow, p []byte, what string) {
	at := f.got
	f.got += int64(len(p))
	if f.wrong {
		return
	}
	switch i := Match(p, f.key, at); {
	case f.end != Open:
		f.wrong = true
		o.reportf(id, "%d bytes after the end of the %s", len(p), what)
	case i >= 0:
		f.wrong = true
		o.reportf(id, "byte %d of the %s is wrong%s", at+int64(i), what, o.whence(p[i:]))
	case !f.any && f.got > f.want:
		f.wrong = true
		o.reportf(id, "the %s has %d bytes, more than the %d that were sent", what, f.got, f.want)
	}
}

// whence says where wrong bytes come from, if they are somebody's.
func (o *Oracle) whence(p []byte) string {
	k, off, ok := Find(p, ID(len(o.requests)))
	if !ok {
		return ""
	}
	dir := "request"
	if k&1 == 1 {
		dir = "response"
	}
	return fmt.Sprintf(": it is byte %d of %s %d", off, dir, k>>1)
}

func (o *Oracle) end(id ID, f *flow, e End) {
	if f.end != Open {
		if f.end != e && f.end == Cut {
			o.reportf(id, "a direction that was cut ended cleanly afterwards")
		}
		return
	}
	f.end, f.at = e, o.now()
}
