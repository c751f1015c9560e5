package h2

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	judge "golang.org/x/net/http2"

	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/slab"
)

// seeds are the bytes of what peers must not do, and of what they do.
func seeds(f *testing.F, cfg Config, list []violation) {
	for _, v := range list {
		p := newPeer(f, cfg)
		p.in.Reset()
		p.frame(p.fr.WriteSettings())
		p.frame(p.fr.WriteSettingsAck())
		if cfg.Client {
			for _, m := range []string{"GET", "HEAD"} {
				p.open(headOf(m, "/"), true)
			}
			p.open(headOf("POST", "/"), false)
		}
		func() {
			// Cases that look at a stream of the Conn end where they do so.
			defer func() { _ = recover() }()
			v.do(p)
		}()
		if p.in.Len() < 5000 {
			f.Add(bytes.Clone(p.in.Bytes()), uint8(3))
		}
	}
}

// run feeds b in pieces of at most piece bytes to a Conn whose owner answers
// everything, and whose output leaves after each piece (live) or in the end. It
// returns what the Conn told, DATA joined, and checks that the
// Conn never sends what x/net's framer refuses, keeps its invariants and gives
// all memory back.
func run(t *testing.T, cfg Config, b []byte, piece int, live bool) string {
	pool := slab.NewPool(nil)
	cfg.Pool = pool
	p := &peer{t: t, c: New(cfg, 1), streams: map[uint32]*Stream{}}
	now := mono.Time(1)
	var told strings.Builder
	var out bytes.Buffer
	if cfg.Client {
		for _, m := range []string{"GET", "HEAD"} {
			p.open(headOf(m, "/"), true)
		}
		s := p.open(headOf("POST", "/"), false)
		p.c.SendData(s, make([]byte, 100000), false)
		p.c.SendTrailers(s, fields("a=b"))
	} else {
		b = append([]byte(preface), b...)
	}
	dataOf := uint32(0)
	for len(b) > 0 {
		read := bytes.Clone(b[:min(len(b), piece)])
		b = b[len(read):]
		p.c.Feed(read)
		for {
			ev, ok := p.c.Next(now)
			if !ok {
				break
			}
			answer(p.c, ev)
			if ev.Kind == EventData && dataOf == ev.Stream.ID {
				fmt.Fprintf(&told, "%x", ev.Data)
			} else if ev.Kind == EventData {
				fmt.Fprintf(&told, "\ndata %d %x", ev.Stream.ID, ev.Data)
				dataOf = ev.Stream.ID
			} else {
				dataOf = 0
				p.event(ev)
				told.WriteString("\n" + p.events[len(p.events)-1])
			}
			if ev.Kind == EventData && ev.End {
				told.WriteString(" end")
			}
		}
		p.c.Stash()
		for i := range read {
			read[i] = 0xdb
		}
		if live || len(b) == 0 {
			out.Write(p.c.Output(nil, 1<<20))
		}
		for _, _, ok := p.c.Drained(); ok; _, _, ok = p.c.Drained() {
		}
		invariants(t, p.c)
	}
	legal(t, &out, cfg.Client)
	p.c.Close()
	if n := pool.InUse(); n != 0 {
		t.Errorf("%d bytes in use after Close", n)
	}
	return told.String()
}

// answer is an owner that echoes in its way.
func answer(c *Conn, ev Event) {
	switch {
	case ev.Kind == EventData:
		c.Consume(ev.Stream, len(ev.Data))
	case ev.Kind == EventHead && !c.cfg.Client:
		c.SendInfo(ev.Stream, ev.Head)
		h := ok200()
		h.Fields = ev.Head.Fields
		c.SendHead(ev.Stream, h, false)
		c.SendData(ev.Stream, []byte("hello"), false)
	}
	if !ev.End || c.cfg.Client {
		return
	}
	if ev.Kind == EventTrailers {
		c.SendTrailers(ev.Stream, ev.Head.Fields)
	} else {
		c.SendData(ev.Stream, make([]byte, 20000), true)
	}
}

func invariants(t *testing.T, c *Conn) {
	if c.err != nil {
		return
	}
	if got := c.connRecv + c.connOwed; got > int64(c.cfg.ConnWindow) || got < 0 {
		t.Fatalf("connection window %d of %d", got, c.cfg.ConnWindow)
	}
	n := 0
	for s := c.open.first; s != nil; s = s.opened.next {
		n++
		if got := s.recvWin + s.held + s.owed; got != s.size && !s.muted && c.recvInit == c.cfg.Window {
			t.Fatalf("stream %d: windows add up to %d of %d", s.ID, got, s.size)
		}
		if s.queue.n > 0 && (s.ahead <= 0 || s.ahead > s.queue.n) {
			t.Fatalf("stream %d: %d bytes wait, %d of them are ahead", s.ID, s.queue.n, s.ahead)
		}
		if c.table.get(s.ID) != s || s.closed {
			t.Fatalf("stream %d is lost", s.ID)
		}
	}
	if n != c.table.n {
		t.Fatalf("%d streams in the list, %d in the table", n, c.table.n)
	}
	if len(c.stash) > int(c.cfg.MaxFrameSize) || len(c.block) > 2*c.cfg.HeaderBytes {
		t.Fatalf("%d bytes in the stash, %d in the block", len(c.stash), len(c.block))
	}
}

// legal has x/net's framer read our output, whole frames in legal order.
func legal(t *testing.T, out *bytes.Buffer, client bool) {
	b := out.Bytes()
	if client && len(b) > 0 {
		b = b[len(preface):]
	}
	fr := judge.NewFramer(io.Discard, bytes.NewReader(b))
	for {
		if _, err := fr.ReadFrame(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("the framer refuses our output: %v", err)
		}
	}
}

// same runs b whole, split, and split with output in between. Credit depends on
// the pieces, so that what is longer than half a window need not end the same.
func same(t *testing.T, cfg Config, b []byte, piece int) {
	run(t, cfg, b, piece, true)
	whole := run(t, cfg, b, 1<<20, false)
	if split := run(t, cfg, b, piece, false); split != whole && len(b) < 30000 {
		t.Errorf("whole:%s\nin pieces of %d:%s", whole, piece, split)
	}
}

// FuzzServer: any bytes after the preface; the same however they are split.
func FuzzServer(f *testing.F) {
	seeds(f, Config{}, serverViolations)
	f.Fuzz(func(t *testing.T, b []byte, piece uint8) {
		cfg := Config{Hop: piece&1 == 1, HeaderBytes: 4096, MaxConcurrentStreams: 5}
		same(t, cfg, b, int(piece)+1)
	})
}

// FuzzClient: the same for what a server sends; streams 1, 3 and 5 are open.
func FuzzClient(f *testing.F) {
	seeds(f, Config{Client: true}, clientViolations)
	f.Fuzz(func(t *testing.T, b []byte, piece uint8) {
		cfg := Config{Client: true, Hop: piece&1 == 1, HeaderBytes: 4096}
		same(t, cfg, b, int(piece)+1)
	})
}
