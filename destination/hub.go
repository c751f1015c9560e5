package destination

import (
	"net/netip"
	"sync"

	"github.com/tulle-mesh/tulle/controller/state"
	"github.com/tulle-mesh/tulle/internal/mesh"
)

// hub knows which streams care for what. Its mu is taken before a stream's, never the other way.
type hub struct {
	mu      sync.Mutex // guards all
	streams map[*stream]bool
	targets map[mesh.Target]map[*subject]bool
	addrs   map[netip.Addr]map[*subject]bool // those whose target is an address
	// workloads are the streams by the workload that they asked to be; those that named none are
	// under the empty name.
	workloads map[state.Name]map[*stream]bool
}

func newHub() *hub {
	return &hub{
		streams:   make(map[*stream]bool),
		targets:   make(map[mesh.Target]map[*subject]bool),
		addrs:     make(map[netip.Addr]map[*subject]bool),
		workloads: make(map[state.Name]map[*stream]bool),
	}
}

func (h *hub) join(st *stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.streams[st] = true
	add(h.workloads, st.asked, st)
}

func (h *hub) leave(st *stream, subjects []*subject) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.streams, st)
	remove(h.workloads, st.asked, st)
	for _, s := range subjects {
		h.drop(s)
	}
}

func (h *hub) subscribe(s *subject) {
	h.mu.Lock()
	defer h.mu.Unlock()
	add(h.targets, s.target, s)
	if s.target.Addr.IsValid() {
		add(h.addrs, s.target.Addr.Addr(), s)
	}
}

func (h *hub) unsubscribe(s *subject) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop(s)
}

// drop is called with mu held.
func (h *hub) drop(s *subject) {
	remove(h.targets, s.target, s)
	if s.target.Addr.IsValid() {
		remove(h.addrs, s.target.Addr.Addr(), s)
	}
}

// spread queues what changed on every stream that cares.
func (h *hub) spread(d state.Dirty) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for t := range d.Targets {
		for s := range h.targets[t] {
			s.stream.queue(s)
		}
	}
	for a := range d.Addrs {
		for s := range h.addrs[a] {
			s.stream.queue(s)
		}
	}
	for n := range d.Inbound {
		for st := range h.workloads[n] {
			st.queue(st.inbound)
		}
	}
	if len(d.Inbound) > 0 {
		for st := range h.workloads[state.Name{}] {
			st.queue(st.inbound)
		}
	}
}

// all lists the streams.
func (h *hub) all() []*stream {
	h.mu.Lock()
	defer h.mu.Unlock()
	sts := make([]*stream, 0, len(h.streams))
	for st := range h.streams {
		sts = append(sts, st)
	}
	return sts
}

func add[K, V comparable](m map[K]map[V]bool, k K, v V) {
	if m[k] == nil {
		m[k] = make(map[V]bool)
	}
	m[k][v] = true
}

func remove[K, V comparable](m map[K]map[V]bool, k K, v V) {
	delete(m[k], v)
	if len(m[k]) == 0 {
		delete(m, k)
	}
}
