package mesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/tulle-mesh/tulle/identity"
	"github.com/tulle-mesh/tulle/proxy"
)

// load is open-loop traffic: requests leave at their time whatever became of those before, and
// nobody but the mesh repeats one.
type load struct {
	t    testing.TB
	dial string
	h1   *http.Client
	h2   *http.Client
	grpc pb.TestServiceClient

	next atomic.Int64
	wg   sync.WaitGroup

	mu  sync.Mutex // guards all
	all map[string]*sent
}

// sent is one request as its client saw it.
type sent struct {
	id           string
	began, ended time.Time
	err          error
}

func newLoad(t testing.TB, dial string) *load {
	return &load{
		t: t, dial: dial, h1: http1Client(t), h2: http2Client(t),
		grpc: pb.NewTestServiceClient(grpcClient(t, dial)), all: map[string]*sent{},
	}
}

// run sends rate requests a second until ctx ends; wait then waits for all.
func (l *load) run(ctx context.Context, rate int) {
	l.wg.Go(func() { // ended by ctx
		tick := time.NewTicker(time.Second / time.Duration(rate))
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				l.wg.Go(l.one) // ends with the request
			}
		}
	})
}

// one sends a request of the next kind.
func (l *load) one() {
	n := l.next.Add(1)
	s := &sent{id: fmt.Sprintf("r%d", n), began: time.Now()}
	l.mu.Lock()
	l.all[s.id] = s
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), long) // it may end after the test's body
	defer cancel()
	var err error
	switch n % 4 {
	case 0:
		err = l.http(ctx, l.h1, "POST", s.id)
	case 1:
		err = l.http(ctx, l.h1, "PUT", s.id)
	case 2:
		err = l.http(ctx, l.h2, "POST", s.id)
	case 3:
		var r *pb.SimpleResponse
		r, err = l.grpc.UnaryCall(ctx, &pb.SimpleRequest{Payload: &pb.Payload{Body: []byte(s.id)}})
		if err == nil && r.GetUsername() != s.id {
			err = fmt.Errorf("an answer to %s", r.GetUsername())
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.ended, s.err = time.Now(), err
}

// http sends a body that net/http cannot send again, so that it never does.
func (l *load) http(ctx context.Context, c *http.Client, method, id string) error {
	body := strings.Repeat(id+" ", 50)
	req, err := http.NewRequestWithContext(ctx, method, "http://"+l.dial+"/work", io.NopCloser(strings.NewReader(body)))
	if err != nil {
		return err
	}
	req.ContentLength = int64(len(body))
	req.Header.Set("X-Request-Id", id)
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("%s: %s", resp.Status, resp.Header.Get("tulle-proxy-error"))
	case string(b) != id+" "+body:
		return errors.New("an answer to something else")
	}
	return nil
}

// life is a mesh of instances under load.
type life struct {
	w    *world
	load *load
	stop func() // ends the load and waits for what is in flight
	step time.Duration
	all  []*instance
}

// newLife starts two instances and the load.
func newLife(t testing.TB, process bool) *life {
	step, rate := 400*time.Millisecond, 200
	if !testing.Short() {
		step, rate = 8*time.Second, 400
	}
	w := bareWorld(t, worldConfig{mode: binaries, slots: 1, plane: planeConfig{
		process:   process,
		authority: identity.AuthorityConfig{LeafLifetime: 6 * time.Second, IssuerLifetime: 10 * time.Minute, RootLifetime: time.Hour},
	}})
	w.plane.write("server.yaml", serviceYAML("server", 1))
	w.plane.write("own.yaml", workload{name: "client-0", account: "client", service: "none", addr: w.net + "2"}.yaml())
	x := &life{w: w, step: step, all: []*instance{w.startInstance(0), w.startInstance(1)}}
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

// TestTrafficThroughEverything: R11.2, R11.4, R10.1, R6.3, R7.1, R4.3. In the middle of open-loop
// traffic an instance is added, one is stopped, the control plane is killed and comes back,
// certificates rotate, and one instance is killed. Only what was in flight on that one may fail;
// nothing is lost otherwise, and nothing is processed twice.
func TestTrafficThroughEverything(t *testing.T) {
	x := newLife(t, true)
	w, a, b := x.w, x.all[0], x.all[1]
	c := w.startInstance(2)
	x.all = append(x.all, c)
	pause(x.step)
	if begun, _ := c.notes(); len(begun) == 0 {
		t.Error("the instance that was added gets nothing")
	}
	a.retire(t)
	pause(x.step)

	w.plane.stop()
	pause(x.step)
	w.plane.start()
	until(t, "second certificate", func() bool { return strings.Count(w.client.logs.String(), `"certified"`) > 1 })
	pause(x.step)

	killed := time.Now()
	b.kill()
	died := time.Now()
	pause(x.step)
	w.plane.remove(b.name + ".yaml")
	pause(x.step)
	x.stop()
	x.load.judge(killed, died, b, x.all)
}

// TestTrafficThroughARotationOfRoots: R10.3, R5.2. A root is added, signs, and the first one goes;
// no request notices.
func TestTrafficThroughARotationOfRoots(t *testing.T) {
	x := newLife(t, false)
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
	x.stop()
	x.load.judge(time.Time{}, time.Time{}, nil, x.all)
}

// judge compares what clients saw with what instances noted.
func (l *load) judge(killed, died time.Time, victim *instance, all []*instance) {
	t := l.t
	processed := map[string]int{}
	for _, i := range all {
		begun, _ := i.notes()
		for id, n := range begun {
			processed[id] += n
		}
	}
	onVictim, lost, excused := 0, 0, 0
	if victim != nil {
		begun, ended := victim.notes()
		for id := range begun {
			if ended[id] == 0 {
				onVictim++
			}
		}
	}
	for _, s := range l.sorted() {
		switch {
		case processed[s.id] > 1:
			t.Errorf("%s was processed %d times", s.id, processed[s.id])
		case s.err == nil && processed[s.id] == 0:
			t.Errorf("%s was answered by nobody", s.id)
		case s.err == nil:
		case !s.began.After(died) && s.ended.After(killed) && s.ended.Before(died.Add(2*time.Second)):
			excused++
		default:
			lost++
			t.Errorf("%s, sent %v and failed %v after the kill: %v", s.id, s.began.Sub(killed), s.ended.Sub(killed), s.err)
		}
	}
	// What the victim's application never began was on its way to it or back.
	under := 0
	for _, s := range l.sorted() {
		if !s.began.After(died) && s.ended.After(killed) {
			under++
		}
	}
	if excused > under {
		t.Errorf("%d failed with the victim, %d were in flight", excused, under)
	}
	t.Logf("%d requests; %d failed with the killed instance, which had begun %d of the %d in flight; %d lost otherwise",
		len(l.all), excused, onVictim, under, lost)
}

func (l *load) sorted() []*sent {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []*sent
	for _, s := range l.all {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b *sent) int { return a.began.Compare(b.began) })
	return out
}
