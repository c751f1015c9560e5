package metrics

import "slices"

// Snapshot is a copy of a Store that any goroutine may read.
type Snapshot struct {
	proxy    Proxy
	http     []HTTP
	times    []timing
	traffic  []traffic
	tcp      []TCP
	authz    []Authz
	detected []Detected
	overflow uint64
}

// Snapshot copies the store. The worker calls it at the end of a turn.
func (s *Store) Snapshot() *Snapshot {
	n := &Snapshot{
		proxy: s.Proxy, detected: slices.Clone(s.detected), overflow: s.overflow,
		http: values(s.http.all), times: values(s.times.all), traffic: values(s.traffic.all), tcp: values(s.tcp.all), authz: values(s.authz.all),
	}
	for i := range n.http {
		n.http[i].store, n.http[i].times, n.http[i].responses = nil, nil, slices.Clone(n.http[i].responses)
	}
	for i := range n.times {
		n.times[i].store = nil
	}
	for i := range n.traffic {
		n.traffic[i].store, n.traffic[i].closed = nil, slices.Clone(n.traffic[i].closed)
	}
	for i := range n.tcp {
		n.tcp[i].store, n.tcp[i].count = nil, nil
	}
	for i := range n.authz {
		n.authz[i].store = nil
	}
	return n
}

func values[T any](ps []*T) []T {
	vs := make([]T, len(ps))
	for i, p := range ps {
		vs[i] = *p
	}
	return vs
}

// sum adds snapshots of all workers up into the first; it owns them.
func sum(all []*Snapshot) *Snapshot {
	if len(all) == 0 {
		return &Snapshot{}
	}
	to := all[0]
	for _, s := range all[1:] {
		to.proxy.add(&s.proxy)
		to.overflow += s.overflow
		to.http = merge(to.http, s.http, (*HTTP).add)
		to.times = merge(to.times, s.times, func(t, o *timing) { t.add(&o.latencies) })
		to.traffic = merge(to.traffic, s.traffic, (*traffic).add)
		to.tcp = merge(to.tcp, s.tcp, func(t, o *TCP) { t.open += o.open })
		to.authz = merge(to.authz, s.authz, (*Authz).add)
		for _, d := range s.detected {
			to.addDetected(d)
		}
	}
	return to
}

// merge adds what is in from to what has the same labels in to.
func merge[T any, P set[T]](to, from []T, add func(to, from *T)) []T {
	at := make(map[Labels]int, len(to))
	for i := range to {
		at[P(&to[i]).common().labels] = i
	}
	for i := range from {
		if j, ok := at[P(&from[i]).common().labels]; ok {
			add(&to[j], &from[i])
		} else {
			to = append(to, from[i])
		}
	}
	return to
}

func (h *HTTP) add(o *HTTP) {
	h.requests += o.requests
	h.retries += o.retries
	for _, r := range o.responses {
		h.kind(r.status, r.grpc, r.failure).n += r.n
	}
}

func (a *Authz) add(o *Authz) {
	a.allowed += o.allowed
	a.denied += o.denied
}

func (t *traffic) add(o *traffic) {
	t.opened += o.opened
	t.read += o.read
	t.wrote += o.wrote
	for _, c := range o.closed {
		t.end(c.errno, c.n)
	}
}

func (s *Snapshot) addDetected(d Detected) {
	for i := range s.detected {
		if e := &s.detected[i]; e.direction == d.direction && e.port == d.port {
			for o := range e.n {
				e.n[o] += d.n[o]
			}
			return
		}
	}
	s.detected = append(s.detected, d)
}

// add adds another worker's counts and gauges; the buffers are the proxy's, not the worker's.
func (p *Proxy) add(o *Proxy) {
	addAll(p.Timeouts[:], o.Timeouts[:])
	addAll(p.Refused[:], o.Refused[:])
	p.RetryBudgetExhausted += o.RetryBudgetExhausted
	p.CircuitOpen += o.CircuitOpen
	p.Evicted += o.Evicted
	p.UpdatesAcked += o.UpdatesAcked
	p.UpdatesRefused += o.UpdatesRefused
	p.Digests += o.Digests
	p.DigestMismatches += o.DigestMismatches
	p.Resyncs += o.Resyncs
	addAll(p.InFlight[:], o.InFlight[:])
	addAll(p.Queued[:], o.Queued[:])
	for d := range p.Phases {
		for i := range p.Phases[d] {
			p.Phases[d][i].add(o.Phases[d][i])
		}
		p.Added[d].add(&o.Added[d])
	}
}

func addAll[N int64 | uint64](to, from []N) {
	for i := range to {
		to[i] += from[i]
	}
}
