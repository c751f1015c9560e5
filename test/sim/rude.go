package sim

import (
	"net/netip"
	"strings"
	"time"

	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/loop/simnet"
)

// rude is the number of requests that are no calls: their clients do what they
// may not, or nothing.
const rude = "rude"

// rudeClient sends what a proxy must refuse, and holds that it is told so.
type rudeClient struct {
	s     *Sim
	name  string
	send  string
	want  string // how what it gets begins; of HTTP/2 an outcome
	h2    *rudeH2
	after time.Duration // the end comes no earlier
	began mono.Time
	got   []byte
	ended bool
}

// rudeness is one of the things that a client may not do over HTTP/1.
type rudeness struct {
	name, send, want string
	after            time.Duration
}

const rudeHead = " /rude HTTP/1.1\r\nX-Oracle-Id: rude\r\n"

// of HTTP/1 (R3.4, R1.5, R3.5).
func rudeH1(s *Sim) []rudeness {
	get, post := "GET"+rudeHead+"Host: sim\r\n", "POST"+rudeHead+"Host: sim\r\n"
	const bad = "HTTP/1.1 400"
	return []rudeness{
		{name: "length and chunked", send: post + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", want: bad},
		{name: "chunked and length", send: post + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", want: bad},
		{name: "two lengths", send: post + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", want: bad},
		{name: "a signed length", send: post + "Content-Length: +3\r\n\r\nabc", want: bad},
		{name: "not chunked last", send: post + "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", want: bad},
		{name: "chunked twice", send: post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", want: bad},
		{name: "chunked in 1.0", send: strings.Replace(post, "/1.1", "/1.0", 1) + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", want: bad},
		{name: "space before the colon", send: get + "X-A : b\r\n\r\n", want: bad},
		{name: "a folded line", send: get + "X-A: b\r\n c\r\n\r\n", want: bad},
		{name: "a bare LF", send: get + "X-A: b\nX-B: c\r\n\r\n", want: bad},
		{name: "a bare CR", send: get + "X-A: b\rX-B: c\r\n\r\n", want: bad},
		{name: "NUL", send: get + "X-A: b\x00c\r\n\r\n", want: bad},
		{name: "two hosts", send: get + "Host: sim\r\n\r\n", want: bad},
		{name: "no host", send: "GET" + rudeHead + "\r\n", want: bad},
		{name: "another host", send: strings.Replace(get, " /rude", " http://other/rude", 1) + "\r\n", want: bad},
		{name: "Connection names Host", send: get + "Connection: host\r\n\r\n", want: bad},
		{name: "Connection names the mesh's", send: get + "Connection: tulle-client-id\r\n\r\n", want: bad},
		{name: "CONNECT to a path", send: strings.Replace(get, "GET", "CONNECT", 1) + "\r\n", want: bad},
		{name: "HTTP/1.5", send: strings.Replace(get, "/1.1", "/1.5", 1) + "\r\n", want: "HTTP/1.1 505"},
		{name: "many fields", send: get + strings.Repeat("X-A: b\r\n", 300) + "\r\n", want: "HTTP/1.1 431"},
		{name: "a long field", send: get + "X-A: " + strings.Repeat("b", 70<<10) + "\r\n\r\n", want: "HTTP/1.1 431"},
		{name: "a long target", send: strings.Replace(get, "/rude", "/"+strings.Repeat("r", 33<<10), 1) + "\r\n", want: "HTTP/1.1 414"},
		{name: "a chunk that is longer", send: post + "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", want: bad},
		{name: "a chunk size with a bare LF", send: post + "Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n", want: bad},
		{name: "a huge chunk size", send: post + "Transfer-Encoding: chunked\r\n\r\n10000000000000003\r\nabc\r\n0\r\n\r\n", want: bad},
		{name: "a trailer that frames", send: post + "Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\n\r\n", want: bad},
		{name: "half a head", send: get + "X-A: b", want: "HTTP/1.1 408", after: s.o.header},
		{name: "no second request", send: get + "\r\n", want: "HTTP/1.1 404", after: idleTime},
		{name: "half a second head", send: get + "\r\n" + get, want: "HTTP/1.1 404 Rude\r\ncontent-length: 0\r\n\r\nHTTP/1.1 408", after: s.o.header},
	}
}

// rudeTraffic has some clients be rude, where nothing else may end their connections.
func (s *Sim) rudeTraffic() {
	if s.o.plain || s.one(4) || !s.calm() || s.o.script.Has(KindStall) || s.o.script.Has(KindDrain) {
		return
	}
	s.Kinds.add(KindRude)
	for range 2 + s.rng.IntN(4) {
		k := &rudeClient{s: s}
		if s.one(2) {
			all := rudeH1(s)
			x := all[s.rng.IntN(len(all))]
			k.name, k.send, k.want, k.after = x.name, x.send, x.want, x.after
		} else {
			all := rudeFrames()
			x := all[s.rng.IntN(len(all))]
			if x.name == rapidResets && !s.o.tls { // in plaintext a hop is taken for one client: others pay
				x = all[0]
			}
			k.name, k.want = x.name, x.want
			k.h2 = newRudeH2(x.send)
			k.send = k.h2.preface()
		}
		c := s.clients[s.rng.IntN(len(s.clients))]
		to := s.dialled(s.services[0], portHTTP)
		if s.one(3) {
			c, to = s.outsider, s.rowAddr(s.services[0].servers[0], portHTTP)
		}
		s.W.After(5*time.Millisecond+s.upTo(s.o.span), func() { k.dial(c, to) })
	}
}

func (k *rudeClient) dial(c *client, to netip.AddrPort) {
	s := k.s
	k.began = s.W.Now()
	e := c.host.Dial(to, simnet.Callbacks{
		Connected: func(e *simnet.Endpoint) { e.Write([]byte(k.send)) },
		Data: func(_ *simnet.Endpoint, p []byte) {
			k.got = append(k.got, p...)
			if k.h2 != nil {
				k.h2.received(p)
			}
		},
		EOF:    func(e *simnet.Endpoint) { k.end(); e.Close(false) },
		Failed: func(*simnet.Endpoint, error) { k.end() },
	})
	s.note("rude", uint64(len(k.send)))
	if s.log != nil {
		s.log("   rude: %s", k.name)
	}
	s.W.After(k.after+rudeWithin+2*s.grace, func() {
		if k.ended {
			return
		}
		k.judge()
		if k.h2 == nil {
			s.O.Reportf(0, "a client that sent %q is still connected", k.name)
		}
		e.Close(true)
	})
}

// rudeWithin is how soon a client is told.
const rudeWithin = 2 * time.Second

func (k *rudeClient) end() {
	if k.ended {
		return
	}
	k.judge()
	if d := k.s.W.Now().Sub(k.began); d < k.after {
		k.s.O.Reportf(0, "a client that sent %q was cut after %v, its time is %v", k.name, d, k.after)
	}
}

func (k *rudeClient) judge() {
	k.ended = true
	k.s.note("rude end", uint64(len(k.got)))
	switch {
	case k.h2 != nil && !strings.Contains(k.h2.outcome+";", k.want+";"):
		k.s.O.Reportf(0, "a client that sent %q got%s, want %s", k.name, k.h2.outcome, k.want)
	case k.h2 == nil && !strings.HasPrefix(string(k.got), k.want):
		k.s.O.Reportf(0, "a client that sent %q got %q, want %q", k.name, k.got[:min(len(k.got), 80)], k.want)
	}
}
