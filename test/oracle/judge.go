package oracle

import "strings"

// judge holds one request against its plan.
func (o *Oracle) judge(r *Request) {
	why := o.excuse(r)
	if !r.over() {
		o.reportf(r.ID, "%s never ended for its client (%d of %d bytes received)%s", r.Plan.Name, r.resp.got, r.resp.want, during(why))
	}
	o.judgeAttempts(r, why)
	o.judgeResponse(r)
	if why == "" {
		o.judgeWhole(r)
	}
	o.judgeResets(r)
}

func during(why string) string {
	if why == "" {
		return ""
	}
	return " (" + why + ")"
}

// judgeAttempts: processed once at most, and what came is whole or cut.
func (o *Oracle) judgeAttempts(r *Request, why string) {
	processed := 0
	falseEnd, _ := o.falseEnd(r)
	for i, a := range r.attempts {
		if !a.refused {
			processed++
		}
		if !a.over() {
			o.reportf(r.ID, "%s never ended at server %s (%d of %d bytes received, end %v, response ended %v)%s",
				r.Plan.Name, a.Server, a.req.got, a.req.want, a.req.end, a.sent.ended, during(why))
		}
		if a.req.end == Clean && !a.refusedTunnel && !falseEnd {
			o.judgeRequestEnd(r, a)
		}
		if i+1 < len(r.attempts) && !a.refused && !(r.Plan.MayRepeat && (a.sent.reset || a.req.end == Cut || a.over() || why != "")) {
			o.reportf(r.ID, "%s was processed again, at %s after %s", r.Plan.Name, r.attempts[i+1].Server, a.Server)
		}
	}
	if r.echoed && processed == 0 {
		o.reportf(r.ID, "%s was answered by a server that it never reached", r.Plan.Name)
	}
}

func (o *Oracle) judgeRequestEnd(r *Request, a *Attempt) {
	switch {
	case a.req.got < a.req.want:
		o.reportf(r.ID, "its body was cut at byte %d of %d but ended cleanly at server %s", a.req.got, a.req.want, a.Server)
	case a.req.trailers != r.Plan.RequestTrailers:
		o.reportf(r.ID, "trailers %q at server %s, %q were sent", a.req.trailers, a.Server, r.Plan.RequestTrailers)
	case r.Plan.Tunnel && !r.sent.ended:
		o.reportf(r.ID, "the client's direction ended cleanly at server %s, but the client did not end it", a.Server)
	}
}

// judgeResponse: what ended cleanly is whole.
func (o *Oracle) judgeResponse(r *Request) {
	if _, falseEnd := o.falseEnd(r); falseEnd || r.resp.end != Clean || !r.echoed && r.status != 0 {
		return
	}
	last := r.last()
	switch {
	case r.resp.got < r.resp.want && !r.resp.any:
		o.reportf(r.ID, "the response was cut at byte %d of %d but ended cleanly", r.resp.got, r.resp.want)
	case r.resp.trailers != r.Plan.ResponseTrailers && r.status != 0:
		o.reportf(r.ID, "the response has trailers %q, %q were sent", r.resp.trailers, r.Plan.ResponseTrailers)
	case (r.Plan.Tunnel || r.resp.any) && last != nil && !last.sent.ended && !last.refusedTunnel:
		o.reportf(r.ID, "the server's direction ended cleanly, but the server did not end it")
	}
}

func (r *Request) last() *Attempt {
	if n := len(r.attempts); n > 0 {
		return r.attempts[n-1]
	}
	return nil
}

// judgeWhole: without a cause everything went as planned.
func (o *Oracle) judgeWhole(r *Request) {
	switch {
	case !r.over():
	case r.failed != "":
		o.reportf(r.ID, "%s failed without a cause: %s (servers: %s)", r.Plan.Name, r.failed, strings.Join(r.servers(), " "))
	case !r.echoed && r.status != 0:
		o.reportf(r.ID, "%s was answered %d by the mesh without a cause: %s", r.Plan.Name, r.status, r.answer)
	case r.status != r.Plan.Status:
		o.reportf(r.ID, "%s was answered %d instead of %d", r.Plan.Name, r.status, r.Plan.Status)
	case r.interim != r.Plan.Interim && len(r.attempts) < 2:
		o.reportf(r.ID, "%s was answered with %d interim responses, %d were sent", r.Plan.Name, r.interim, r.Plan.Interim)
	case len(r.attempts) == 0:
		o.reportf(r.ID, "%s reached no server", r.Plan.Name)
	case !r.last().refused && r.last().req.end == Cut:
		o.reportf(r.ID, "%s was cut on its way to server %s without a cause", r.Plan.Name, r.last().Server)
	}
}

// judgeResets: an end that somebody chose reached the other side in time.
func (o *Oracle) judgeResets(r *Request) {
	for _, a := range r.attempts {
		if at := r.sent.at + Slack; r.sent.reset && a.over() && a.ended > at && a.began <= r.sent.at {
			o.reportf(r.ID, "server %s learnt only after %v that the client had given up", a.Server, a.ended-r.sent.at)
		}
	}
	if a := r.last(); a != nil && a.sent.reset && r.over() && r.ended > a.sent.at+Slack {
		o.reportf(r.ID, "the client learnt only after %v that server %s had broken off", r.ended-a.sent.at, a.Server)
	}
}
