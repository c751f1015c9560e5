package proxy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// answered waits for the outcome of each of the n requests of k.
func (p *h2peer) answered(n int) map[string]int {
	p.w.t.Helper()
	got := map[string]int{}
	for range n {
		what := p.frame()
		switch {
		case strings.HasPrefix(what, "HEADERS "):
			_, what, _ = strings.Cut(what, ":status: ")
			what = what[:3]
		case strings.HasPrefix(what, "RST_STREAM "):
			what = what[strings.LastIndexByte(what, ' ')+1:]
		}
		got[what]++
	}
	return got
}

// R7.1, R4.3: what the application refuses by itself is not given to it again by its own proxy, since
// there is no other to go to: its client is told by the same reset.
func TestARefusedStreamIsTheApplicationsAnswer(t *testing.T) {
	w := newWorld(t, shapeIn, nil)
	c := w.dial().http2(true)
	c.head(1, true, h2get)
	s := w.accept().http2(false)
	s.expectHead(t, 1)
	s.must(s.fr.WriteRSTStream(1, http2.ErrCodeRefusedStream))
	w.run(time.Second)
	c.expectFrame("RST_STREAM 1 REFUSED_STREAM")
	w.noAccept()
	if s.unread() != "" && strings.HasPrefix(s.frame(), "HEADERS") {
		t.Error("the application was asked again")
	}
}

// R7.1, R7.3: through two proxies an application that refuses everything is asked three times, and not
// three times three.
func TestRetriesAreNotMultiplied(t *testing.T) {
	w := newWorld(t, shapeMesh, nil)
	c := w.dial().http2(true)
	c.head(1, true, h2get)
	s := w.accept().http2(false)
	asked := 0
	for f := s.frame(); strings.HasPrefix(f, "HEADERS"); f = s.frame() {
		asked++
		var id uint32
		_, err := fmt.Sscanf(f, "HEADERS %d", &id)
		s.must(err)
		s.must(s.fr.WriteRSTStream(id, http2.ErrCodeRefusedStream))
		w.run(time.Second)
	}
	if asked != 3 {
		t.Errorf("the application was asked %d times, want 3", asked)
	}
	if got := c.answered(1); got["502"] != 1 {
		t.Errorf("the client got %v, want 502", got)
	}
}

// R7.1, R7.3: requests that a GOAWAY says were not processed are given to the application once more,
// over another connection, as far as the budget goes.
func TestWhatAGoAwayLeftIsTriedAgainWithinTheBudget(t *testing.T) {
	w := newWorld(t, shapeIn, nil)
	c := w.dial().http2(true)
	const n = 30
	for i := range n {
		c.head(uint32(2*i+1), true, h2get)
	}
	first := w.accept().http2(false)
	for i := range n {
		first.expectHead(t, uint32(2*i+1))
	}
	first.must(first.fr.WriteGoAway(0, http2.ErrCodeNo, nil))
	w.run(10 * time.Millisecond)
	second := w.accept().http2(false)
	again := 0
	for second.unread() != "" {
		if f := second.frame(); strings.HasPrefix(f, "HEADERS") {
			again++
		}
	}
	// Ten that the budget begins with, and a fifth of thirty.
	if again < 15 || again > 17 {
		t.Errorf("%d of %d requests were tried again", again, n)
	}
	if got := c.answered(n - again); got["502"] != n-again {
		t.Errorf("the client got %v, want %d times 502", got, n-again)
	}
	if got := w.in.Counted().RetryBudgetExhausted; got != uint64(n-again) {
		t.Errorf("%d retries were not made for want of a budget, want %d", got, n-again)
	}
	second.must(second.fr.WriteGoAway(0, http2.ErrCodeNo, nil))
	w.run(time.Second)
	if got := c.answered(again); got["502"] != again {
		t.Errorf("after a second GOAWAY the client got %v, want %d times 502", got, again)
	}
	w.noAccept()
}

// expectHead checks that the next frame is the head of a request.
func (p *h2peer) expectHead(t *testing.T, id uint32) {
	t.Helper()
	if f := p.frame(); !strings.HasPrefix(f, fmt.Sprintf("HEADERS %d ", id)) {
		t.Fatalf("got %s, want HEADERS %d", f, id)
	}
}
