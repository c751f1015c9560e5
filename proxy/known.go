package proxy

import (
	"net/netip"
	"slices"
	"sync"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/proxy/discover"
)

// knowledge is what discovery last said of every target, for a worker whose
// application dials one after another worker's did: the stream says a thing once.
// A proxy with one worker keeps nothing here.
type knowledge struct {
	mu      sync.Mutex // guards targets, and the order in which workers are told
	targets map[mesh.Target]*known
}

// known is one target, whole.
type known struct {
	policy  *mesh.TargetPolicy
	version uint64
	rows    []mesh.Endpoint
	at      map[netip.AddrPort]int // a row's place
}

// learn notes an update and calls tell, so that no worker hears of them in
// another order.
func (k *knowledge) learn(u *discover.Update, tell func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.targets == nil {
		k.targets = map[mesh.Target]*known{}
	}
	t := k.targets[u.Target]
	if u.Full {
		t = &known{at: map[netip.AddrPort]int{}}
		k.targets[u.Target] = t
	}
	if t != nil {
		t.take(u)
	}
	tell()
}

func (t *known) take(u *discover.Update) {
	if u.Policy != nil {
		t.policy = u.Policy
	}
	t.version = u.Version
	for _, a := range u.Removed {
		t.remove(a)
	}
	for i := range u.Added {
		row := &u.Added[i]
		if j, ok := t.at[row.Addr]; ok {
			t.rows[j] = *row
			continue
		}
		t.at[row.Addr] = len(t.rows)
		t.rows = append(t.rows, *row)
	}
}

func (t *known) remove(a netip.AddrPort) {
	i, ok := t.at[a]
	if !ok {
		return
	}
	last := len(t.rows) - 1
	t.rows[i] = t.rows[last]
	t.at[t.rows[i].Addr] = i
	t.rows = t.rows[:last]
	delete(t.at, a)
}

// again calls tell with all that is known of a target, if anything is.
func (k *knowledge) again(key mesh.Target, tell func(u discover.Update)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if t := k.targets[key]; t != nil {
		tell(discover.Update{Target: key, Version: t.version, Full: true, Policy: t.policy, Added: slices.Clone(t.rows)})
	}
}

// forget drops what is known of a target that nobody asks for any more.
func (k *knowledge) forget(key mesh.Target) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.targets, key)
}
