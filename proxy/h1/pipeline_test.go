package h1

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tulle-mesh/tulle/proxy/slab"
)

// One request at a time: while one is answered, others arrive and wait in the
// stash. None is lost, doubled or crossed, whatever arrives when, and the stash
// stays as small as what waits.
func TestPipelinedRequestsWait(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var in []byte
		var want []string
		for i := range 200 {
			m := fmt.Sprintf("%d %s", i, repeat("x", rng.IntN(600)))
			want = append(want, m)
			if rng.IntN(2) == 0 {
				in = append(in, req(fmt.Sprintf("Content-Length: %d", len(m)))+m...)
			} else {
				in = AppendLastChunk(AppendChunk(append(in, chunked("")...), []byte(m)), nil)
			}
		}
		got, pool := serve(t, rng, in)
		if len(got) != len(want) {
			t.Fatalf("seed %d: %d messages of %d", seed, len(got), len(want))
		}
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("seed %d: message %d is %q, want %q", seed, i, got[i], want[i])
			}
		}
		if pool.InUse() != 0 {
			t.Errorf("seed %d: %d bytes in use", seed, pool.InUse())
		}
	}
}

// serve reads the bodies of requests as a server does that answers each after a
// random number of arrivals.
func serve(t *testing.T, rng *rand.Rand, in []byte) (got []string, pool *slab.Pool) {
	pool = slab.NewPool(nil)
	p := NewParser(Server, Limits{}, pool)
	var body []byte
	done := false
	loop := func() {
		for {
			ev, ok := p.Next()
			if !ok {
				break
			}
			switch ev.Kind {
			case EventData:
				body = append(body, ev.Data...)
			case EventEnd:
				got, body, done = append(got, string(body)), body[:0], true
			case EventError:
				t.Fatal(ev.Err)
			}
		}
		left := p.Stash()
		if most := int64(5*left + 1024); pool.InUse() > most {
			t.Fatalf("%d bytes in use for %d that wait", pool.InUse(), left)
		}
	}
	for len(in) > 0 || !p.Idle() {
		switch {
		case done && (len(in) == 0 || rng.IntN(3) == 0):
			done = false
			p.NextMessage(Expect{})
			p.Feed(nil)
		default:
			n := min(rng.IntN(900), len(in))
			piece := bytes.Clone(in[:n])
			in = in[n:]
			p.Feed(piece)
			defer clear(piece)
		}
		loop()
		if len(in) == 0 && !done {
			break
		}
	}
	return got, pool
}

// What a peer sent behind an error is not kept.
func TestNothingIsKeptAfterAnError(t *testing.T) {
	pool := slab.NewPool(nil)
	p := NewParser(Server, Limits{}, pool)
	p.Feed([]byte("GET /"))
	p.Next()
	p.Stash()
	p.Feed([]byte(" HTTP/1.1\r\nHost : a\r\n\r\nand more"))
	if ev, _ := p.Next(); ev.Kind != EventError {
		t.Fatal(ev.Kind)
	}
	if ev, ok := p.Next(); ok {
		t.Errorf("event %d after an error", ev.Kind)
	}
	if n := p.Stash(); n != 0 || pool.InUse() != 0 {
		t.Errorf("%d bytes kept, %d in use", n, pool.InUse())
	}
	if ev, ok := p.EOF(); ok {
		t.Errorf("event %d at the end", ev.Kind)
	}
	p.NextMessage(Expect{})
	p.Feed([]byte(req()))
	if ev, ok := p.Next(); ok {
		t.Errorf("event %d of another message after an error", ev.Kind)
	}
}

// Feed without Stash in between loses and repeats nothing.
func TestFeedWithoutStash(t *testing.T) {
	p := NewParser(Server, Limits{}, slab.NewPool(nil))
	var heads int
	for _, piece := range []string{req() + "POST", " / HTTP/1.1\r\n", "Host: a\r\n\r\n" + req()[:20], "", req()[20:]} {
		p.Feed([]byte(piece))
		for {
			ev, ok := p.Next()
			if !ok {
				break
			}
			switch ev.Kind {
			case EventHead:
				heads++
			case EventEnd:
				p.NextMessage(Expect{})
			default:
				t.Fatal(ev.Kind, ev.Err)
			}
		}
	}
	if heads != 3 || !p.Idle() {
		t.Errorf("%d heads, idle %v", heads, p.Idle())
	}
}

// The same while a message waits for its predecessor's answer.
func TestFeedWithoutStashWhileOneWaits(t *testing.T) {
	p := NewParser(Server, Limits{}, slab.NewPool(nil))
	next := func(want ...int) { // lengths of the target, 0 for the end
		t.Helper()
		var got []int
		for ev, ok := p.Next(); ok; ev, ok = p.Next() {
			n := 0
			if ev.Kind == EventHead {
				n = len(ev.Head.Target)
			}
			got = append(got, n)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%d, want %d", got, want)
		}
	}
	p.Feed([]byte("POST / HT"))
	next()
	p.Stash()
	p.Feed([]byte("TP/1.1\r\nHost: a\r\n\r\n" + req() + "POST /" + repeat("b", 2*takeBytes)))
	next(1, 0)
	p.Feed([]byte("c HTTP/1.1\r\nHost: a\r\n\r\n"))
	p.NextMessage(Expect{})
	next(1, 0)
	p.NextMessage(Expect{})
	next(2*takeBytes+2, 0)
	p.NextMessage(Expect{})
	if !p.Idle() {
		t.Errorf("%q is left", p.Rest())
	}
}
