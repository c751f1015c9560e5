package mesh

import (
	"cmp"
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
)

// load is open-loop traffic: requests leave at their time whatever became of those before, and
// nobody but the mesh repeats one.
type load struct {
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
		dial: dial, h1: http1Client(t), h2: http2Client(t),
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

// kill is the end of an instance with its proxy, without a warning. at is when it was ordered, dead
// when both processes had ended.
type kill struct {
	victim   *instance
	at, dead time.Time
}

// verdict is what became of a load.
type verdict struct {
	requests int
	// inFlight is how many were on the killed instance when it was killed, failed how many of those failed.
	inFlight, failed int
	// wrong is everything that should not have happened.
	wrong []string
}

// judge compares what clients saw with what instances noted, id by id. A request may fail only when it
// was in flight on the killed instance at that moment: its client was waiting for it, no other instance
// ever began it, and it had reached the victim, which the victim's own notes say or, where it had not
// come as far as the application, the address in the mesh's answer.
func (l *load) judge(k *kill, all []*instance) verdict {
	begun := map[string][]*instance{}
	for _, i := range all {
		ids, _ := i.notes()
		for id, n := range ids {
			for range n {
				begun[id] = append(begun[id], i)
			}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	v := verdict{requests: len(l.all)}
	wrong := func(s *sent, what string) { v.wrong = append(v.wrong, s.id+" "+what) }
	for _, s := range l.sorted() {
		at := begun[s.id]
		switch {
		case len(at) > 1:
			wrong(s, fmt.Sprintf("was processed %d times", len(at)))
		case s.err == nil && len(at) == 0:
			wrong(s, "was answered by nobody")
		case s.err == nil:
		case k == nil:
			wrong(s, "failed: "+s.err.Error())
		default:
			if why := k.notOn(s, at); why != "" {
				wrong(s, why+": "+s.err.Error())
				continue
			}
			v.failed++
		}
	}
	v.inFlight = v.failed
	if k != nil {
		v.inFlight += k.spared(l.all, begun)
	}
	return v
}

// notOn says why a request was not in flight on the victim when it was killed; empty when it was.
func (k *kill) notOn(s *sent, at []*instance) string {
	switch {
	case s.began.After(k.dead):
		return fmt.Sprintf("was sent %v after the kill", s.began.Sub(k.dead))
	case s.ended.Before(k.at):
		return fmt.Sprintf("failed %v before the kill", k.at.Sub(s.ended))
	case errors.Is(s.err, context.DeadlineExceeded):
		return "was forgotten"
	case len(at) > 0 && at[0] != k.victim:
		return "was on " + at[0].name
	case len(at) > 0: // its own notes say so
		return ""
	case strings.Contains(s.err.Error(), "refused"):
		return "never got there"
	case !strings.Contains(s.err.Error(), "endpoint "+k.victim.addr()+":"):
		return "was not on it"
	}
	return ""
}

// spared counts the requests that were on the victim and were answered all the same.
func (k *kill) spared(all map[string]*sent, begun map[string][]*instance) int {
	n := 0
	for id, s := range all {
		if s.err == nil && s.ended.After(k.at) && len(begun[id]) == 1 && begun[id][0] == k.victim {
			n++
		}
	}
	return n
}

// failed counts the requests that have failed so far.
func (l *load) failed() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, s := range l.all {
		if s.err != nil {
			n++
		}
	}
	return n
}

// sorted is all requests in the order of their beginning; l.mu is held.
func (l *load) sorted() []*sent {
	var out []*sent
	for _, s := range l.all {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b *sent) int { return cmp.Or(a.began.Compare(b.began), cmp.Compare(a.id, b.id)) })
	return out
}
