package mesh

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/identity"
	"github.com/tulle-mesh/tulle/proxy"
)

// life is a mesh of instances under load.
type life struct {
	w    *world
	load *load
	stop func() // ends the load and waits for what is in flight
	step time.Duration
	all  []*instance
}

type lifeConfig struct {
	process   bool // the control plane is a process
	noRetries bool
}

// newLife starts two instances and the load.
func newLife(t testing.TB, cfg lifeConfig) *life {
	step, rate := 400*time.Millisecond, 200
	if !testing.Short() {
		step, rate = 8*time.Second, 400
	}
	w := bareWorld(t, worldConfig{mode: binaries, slots: 1, noRetries: cfg.noRetries, plane: planeConfig{
		process:   cfg.process,
		authority: identity.AuthorityConfig{LeafLifetime: 6 * time.Second, IssuerLifetime: 10 * time.Minute, RootLifetime: time.Hour},
	}})
	w.plane.write("server.yaml", serviceYAML("server", 1))
	w.plane.write("own.yaml", workload{name: "client-0", account: "client", service: "none", addr: w.net + "2"}.yaml())
	x := &life{w: w, step: step}
	x.start(0)
	x.start(1)
	dial := addrPort(w.net+"2", slotPort(0))
	w.client = w.start(proxySpec{
		name: "client-0", account: "client", admin: w.net + "2:4191",
		upstreams: []proxy.Upstream{{Listen: dial, Target: instancesTarget()}},
	})
	x.load = newLoad(t, dial.String())
	ctx, cancel := context.WithCancel(t.Context())
	x.stop = func() { cancel(); x.load.wg.Wait() }
	t.Cleanup(x.stop)
	x.load.run(ctx, rate)
	pause(step)
	return x
}

func (x *life) start(n int) *instance {
	i := x.w.newInstance(n)
	i.announceAs(false)
	i.startProxy()
	x.all = append(x.all, i)
	return i
}

// early adds an instance whose row is there before anybody listens at its address, as happens where
// news travels faster than a process starts: what is sent there goes elsewhere (R7.1).
func (x *life) early(n int) *instance {
	i := x.w.newInstance(n)
	i.announceAs(false)
	pause(x.step)
	i.startProxy()
	x.all = append(x.all, i)
	return i
}

// kill ends an instance while requests are in flight on it. For a moment no instance ends what it
// begins: the balancer would go round one alone that does not.
func (x *life) kill(victim *instance, others ...*instance) *kill {
	all := append(others, victim)
	for _, i := range all {
		i.hold()
	}
	for _, i := range all {
		until(x.w.t, "requests that are held on "+i.name, func() bool {
			begun, ended := i.notes()
			return len(begun)-len(ended) >= 4
		})
	}
	k := &kill{victim: victim, at: time.Now()}
	victim.kill()
	k.dead = time.Now()
	for _, i := range others {
		i.release()
	}
	return k
}

// verdict ends the load and looks at all of it.
func (x *life) verdict(k *kill) verdict {
	x.stop()
	v := x.load.judge(k, x.all)
	x.w.t.Logf("%d requests; %d were in flight on the killed instance, of which %d failed; %d findings",
		v.requests, v.inFlight, v.failed, len(v.wrong))
	return v
}

// TestTrafficThroughEverything: R11.2, R11.4, R10.1, R6.3, R7.1, R4.3. In the middle of open-loop
// traffic an instance is added, one is stopped, the control plane is killed and comes back,
// certificates rotate, and one instance is killed. Only what was in flight on that one may fail;
// nothing is lost otherwise, and nothing is processed twice.
func TestTrafficThroughEverything(t *testing.T) {
	x := newLife(t, lifeConfig{process: true})
	w, a, b := x.w, x.all[0], x.all[1]
	c := x.early(2)
	until(t, "request to the instance that was added", func() bool {
		begun, _ := c.notes()
		return len(begun) > 0
	})
	pause(x.step)
	a.retire(t)
	pause(x.step)

	w.plane.stop()
	pause(x.step)
	w.plane.start()
	until(t, "second certificate", func() bool { return strings.Count(w.client.logs.String(), `"certified"`) > 1 })
	pause(x.step)

	k := x.kill(b, c)
	pause(x.step)
	w.plane.remove(b.name + ".yaml")
	pause(x.step)
	v := x.verdict(k)
	for _, what := range v.wrong {
		t.Error(what)
	}
	if v.inFlight < 4 {
		t.Errorf("%d requests were in flight on the killed instance: it was held to prove more", v.inFlight)
	}
}

// TestWithoutRetriesRequestsAreLost: the same judge, where the proxies may not try again (R7.1). It
// tells that requests are lost that were never on the killed instance.
func TestWithoutRetriesRequestsAreLost(t *testing.T) {
	x := newLife(t, lifeConfig{noRetries: true})
	x.w.newInstance(2).announceAs(false) // and nobody listens there
	until(t, "request that failed", func() bool { return x.load.failed() > 0 })
	if v := x.verdict(x.kill(x.all[1], x.all[0])); len(v.wrong) == 0 {
		t.Error("nothing was lost")
	}
}

// TestTrafficThroughARotationOfRoots: R10.3, R5.2. A root is added, signs, and the first one goes;
// no request notices.
func TestTrafficThroughARotationOfRoots(t *testing.T) {
	x := newLife(t, lifeConfig{})
	authority := x.w.plane.authority
	old := authority.Roots()
	id, err := authority.AddRoot()
	ok(t, err)
	pause(x.step)
	before := strings.Count(x.w.client.logs.String(), `"certified"`)
	ok(t, authority.Promote(id))
	until(t, "certificate below the new root", func() bool { return strings.Count(x.w.client.logs.String(), `"certified"`) > before })
	pause(max(x.step, time.Second)) // the instances have theirs after a tenth of a lifetime, too
	ok(t, authority.Retire(old[0].ID))
	pause(2 * x.step)
	for _, what := range x.verdict(nil).wrong {
		t.Error(what)
	}
}
