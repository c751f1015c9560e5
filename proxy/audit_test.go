package proxy

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/meshtest"
	"github.com/tulle-mesh/tulle/proxy/balance"
	"github.com/tulle-mesh/tulle/proxy/discover"
	"github.com/tulle-mesh/tulle/proxy/loop"
	"github.com/tulle-mesh/tulle/proxy/loop/simnet"
)

// audited is a proxy with one target of n rows, turned by hand.
type audited struct {
	t    *testing.T
	p    *Proxy
	net  *simnet.World
	key  mesh.Target
	rows []mesh.Endpoint
	want mesh.Digest
	// what was answered
	answers []uint64
	at      []bool
}

func newAudited(t *testing.T, n int) *audited {
	a := &audited{t: t, net: simnet.New(simnet.Config{}), key: mesh.NameTarget("catalog.shop", 80)}
	p, err := New(Config{}, Deps{
		Log: zap.NewNop(), Credentials: meshtest.NewAuthority(time.Now).Credentials("spiffe://cluster.local/ns/a/sa/b"),
		Discovery: meshtest.NewDiscovery(),
		Poller:    func(int) (loop.Poller, error) { return a.net.Host(netip.MustParseAddr("10.0.0.1")).NewPoller(), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	a.p = p
	for i := range n {
		e := mesh.Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 80), Pod: fmt.Sprint("web-", i)}
		a.rows = append(a.rows, e)
		a.want.Add(e)
	}
	p.shards[0].target(a.key)
	a.hear(discover.Update{Version: 1, Full: true, Policy: &mesh.TargetPolicy{Kind: mesh.TargetService, Service: "catalog"}, Added: a.rows})
	return a
}

func (a *audited) hear(u discover.Update) {
	u.Target = a.key
	if err := a.p.shards[0].hear(&u); err != nil {
		a.t.Fatal(err)
	}
}

func (a *audited) target() *target { return a.p.shards[0].targets[a.key] }

// ask sends a digest of version 1.
func (a *audited) ask() {
	a.p.Digest(a.key, 1, func(have uint64, at bool) {
		a.answers, a.at = append(a.answers, have), append(a.at, at)
	})
}

func (a *audited) turn() { a.p.Workers()[0].Turn(a.net.Now(), nil) }

// finish turns until all answers are there, and returns how many turns it took.
func (a *audited) finish(answers int) (turns int) {
	a.t.Helper()
	for len(a.answers) < answers {
		if turns++; turns > 1000 {
			a.t.Fatal("no answer in 1000 turns")
		}
		a.turn()
	}
	return turns
}

// A digest of many rows holds a worker up for no more than a slice of them.
func TestADigestIsWalkedInSlices(t *testing.T) {
	a := newAudited(t, 10_000)
	a.ask()
	if turns := a.finish(1); turns < 10_000/auditRows {
		t.Errorf("10,000 rows in %d turns", turns)
	}
	if a.answers[0] != a.want.Value() || !a.at[0] {
		t.Errorf("%x, at the version %v; want %x", a.answers[0], a.at[0], a.want.Value())
	}
	for range 3 * auditRows { // of small targets, too, however many there are
		a.ask()
	}
	if n := len(a.p.shards[0].audits); n > 1 {
		t.Errorf("%d audits of one target wait", n)
	}
	a.finish(1 + 3*auditRows)
}

// Done when 8: a row that went wrong after it was put in is seen by the next digest.
func TestADigestSeesARowThatWentWrong(t *testing.T) {
	a := newAudited(t, 2000)
	a.target().bal.Each(func(e *balance.Endpoint) {
		if e.Pod == "web-1234" {
			e.Weight = 9
		}
	})
	a.ask()
	a.finish(1)
	if a.answers[0] == a.want.Value() || !a.at[0] {
		t.Errorf("%x, at the version %v", a.answers[0], a.at[0])
	}
}

// What changes while it is walked is answered by what was put in at that version.
func TestADigestOfATargetThatChangesIsWhatItWasTold(t *testing.T) {
	a := newAudited(t, 2000)
	a.ask()
	a.turn()
	a.hear(discover.Update{Version: 2, Removed: []netip.AddrPort{a.rows[7].Addr}})
	a.finish(1)
	if a.answers[0] != a.want.Value() || !a.at[0] {
		t.Errorf("%x, at the version %v; want %x", a.answers[0], a.at[0], a.want.Value())
	}
	a.ask() // of a version that is past
	a.finish(2)
	if a.at[1] {
		t.Error("an answer at a version that is past")
	}
}

// An endpoint that is ejected meanwhile is neither missed nor counted twice.
func TestADigestOutlastsEjections(t *testing.T) {
	for every := range 4 {
		a := newAudited(t, 2000)
		a.ask()
		for turns := 0; len(a.answers) == 0 && turns < 1000; turns++ {
			a.turn()
			if turns%(every+1) == every {
				a.eject()
			}
		}
		if len(a.answers) == 0 || a.answers[0] != a.want.Value() {
			t.Errorf("ejections every %d turns: %x, want %x", every+1, a.answers, a.want.Value())
		}
	}
}

// eject has the endpoint that is picked next fail until it is out.
func (a *audited) eject() {
	e, why := a.target().bal.Pick(a.net.Now(), nil)
	if e == nil {
		a.t.Fatal(why)
	}
	for !e.Ejected() {
		f := e.Start(a.net.Now())
		f.Done(a.net.Now(), balance.Failure(balance.CauseReset, 0))
	}
}
