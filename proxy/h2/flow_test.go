package h2

import (
	"fmt"
	"strings"
	"testing"

	judge "golang.org/x/net/http2"

	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/slab"
)

// respond opens a stream and starts a response with n bytes of body.
func (p *peer) respond(id uint32, n int, end bool) *Stream {
	p.get(id)
	p.feed()
	s := p.streams[id]
	p.c.SendHead(s, ok200(), false)
	p.c.SendData(s, []byte(strings.Repeat("x", n)), end)
	return s
}

func TestDataLeavesRoundRobin(t *testing.T) {
	p := ready(t, Config{})
	p.respond(1, 40000, true)
	p.respond(3, 20000, true)
	p.c.Ping(p.now)
	p.wantFrames("PING ack=false 0000000000000001",
		"HEADERS 1 :status=200", "HEADERS 3 :status=200",
		`DATA 1 "xxxxxxxx"... 16384 bytes`, `DATA 3 "xxxxxxxx"... 16384 bytes`,
		`DATA 1 "xxxxxxxx"... 16384 bytes`, `DATA 3 "xxxxxxxx"... 3616 bytes end`,
		`DATA 1 "xxxxxxxx"... 7232 bytes end`)
}

func TestOutputKeepsToItsRoom(t *testing.T) {
	p := ready(t, Config{}, judge.Setting{ID: judge.SettingInitialWindowSize, Val: 1 << 20})
	p.frame(p.fr.WriteWindowUpdate(0, 1<<20))
	p.respond(1, 300<<10, true)
	if b := p.c.Output(nil, 0); len(b) != 0 {
		t.Errorf("%d bytes without room", len(b))
	}
	if b := p.c.Output(nil, 1<<20); len(b) < 128<<10 || len(b) > 129<<10 {
		t.Errorf("%d bytes in one call, want 128 KiB", len(b))
	}
	if b := p.c.Output(nil, 5000); len(b) != 5000 {
		t.Errorf("%d bytes in a room of 5000", len(b))
	}
	if b := p.c.Output(nil, 17000); len(b) != 16393 {
		t.Errorf("%d bytes in a room of 17000, want no small piece", len(b))
	}
	if b := p.c.Output(nil, 10); len(b) != 10 {
		t.Errorf("%d bytes in a room of 10", len(b))
	}
	if s, n, ok := p.c.Drained(); !ok || s.ID != 1 || n != 300<<10-p.c.Queued(s) {
		t.Errorf("drained %d", n)
	}
}

// R4.2.
func TestSendWindows(t *testing.T) {
	p := ready(t, Config{}, judge.Setting{ID: judge.SettingInitialWindowSize, Val: 10})
	s := p.respond(1, 25, true)
	p.wantFrames("HEADERS 1 :status=200", `DATA 1 "xxxxxxxxxx"`)
	if p.c.WantsOutput() || p.c.Queued(s) != 15 {
		t.Errorf("wants output %v, queued %d", p.c.WantsOutput(), p.c.Queued(s))
	}
	p.frame(p.fr.WriteWindowUpdate(1, 3))
	p.wantFrames(`DATA 1 "xxx"`)
	// Negative: 5 - 10 + 0.
	p.setting(judge.SettingInitialWindowSize, 5)
	p.wantFrames("SETTINGS ack")
	p.frame(p.fr.WriteWindowUpdate(1, 5))
	p.wantFrames()
	p.frame(p.fr.WriteWindowUpdate(1, 1))
	p.wantFrames(`DATA 1 "x"`)
	p.setting(judge.SettingInitialWindowSize, 100)
	p.wantFrames("SETTINGS ack", `DATA 1 "xxxxxxxxxxx" end`)
}

// A stream in line loses its window before its turn comes.
func TestSettingsTakeTheWindowOfAStreamInLine(t *testing.T) {
	p := ready(t, Config{})
	s := p.respond(1, 100, false)
	p.c.Output(nil, 1<<20)
	p.c.SendData(s, []byte("y"), true)
	p.setting(judge.SettingInitialWindowSize, 0)
	p.wantFrames("SETTINGS ack")
	p.frame(p.fr.WriteWindowUpdate(1, 101))
	p.wantFrames(`DATA 1 "y" end`)
}

func TestConnectionWindow(t *testing.T) {
	p := ready(t, Config{}, judge.Setting{ID: judge.SettingInitialWindowSize, Val: 1 << 20})
	p.respond(1, 60000, true)
	p.dropFrames()
	p.respond(3, 10000, false)
	p.respond(5, 10000, true)
	p.c.SendTrailers(p.streams[3], fields("a=b"))
	p.wantFrames("HEADERS 3 :status=200", "HEADERS 5 :status=200", `DATA 3 "xxxxxxxx"... 5535 bytes`)
	// What needs no window leaves all the same.
	p.get(7)
	p.feed()
	p.c.SendHead(p.streams[7], ok200(), false)
	p.c.SendData(p.streams[7], nil, true)
	p.wantFrames("HEADERS 7 :status=200", `DATA 7 "" end`)
	p.frame(p.fr.WriteWindowUpdate(0, 5000))
	p.wantFrames(`DATA 5 "xxxxxxxx"... 5000 bytes`)
	p.frame(p.fr.WriteWindowUpdate(0, 50000))
	p.wantFrames(`DATA 3 "xxxxxxxx"... 4465 bytes`, "HEADERS 3 a=b end", `DATA 5 "xxxxxxxx"... 5000 bytes end`)
}

// R4.5: a stream that its peer's window holds back ages, and is none the younger for a window that is
// opened byte by byte; one that keeps pace stays young.
func TestWhatWaitsForAWindowAges(t *testing.T) {
	p := ready(t, Config{}, judge.Setting{ID: judge.SettingInitialWindowSize, Val: 10})
	if s, _ := p.c.Oldest(); s != nil {
		t.Fatal("something waits on an idle connection")
	}
	want := func(id uint32, since mono.Time, why string) {
		t.Helper()
		s, at := p.c.Oldest()
		switch {
		case s == nil && id == 0:
		case s == nil || s.ID != id || at != since:
			t.Errorf("%s: oldest is %v since %d, want %d since %d", why, s, at, id, since)
		}
	}
	p.now = 5e9
	first := p.respond(1, 25, false)
	p.dropFrames()
	want(1, 5e9, "held back")
	p.now = 9e9
	p.respond(3, 25, true)
	p.c.SendData(first, []byte("later"), true)
	p.frame(p.fr.WriteWindowUpdate(1, 14))
	p.dropFrames()
	want(1, 5e9, "one byte of the first is left")
	p.now = 10e9
	p.frame(p.fr.WriteWindowUpdate(1, 1))
	p.dropFrames()
	want(3, 9e9, "all has left that waited first")
	p.c.Evict(p.streams[3])
	p.wantFrames("RST_STREAM 3 ENHANCE_YOUR_CALM")
	want(1, 10e9, "the other is gone")
	p.frame(p.fr.WriteWindowUpdate(1, 5))
	p.dropFrames()
	want(0, 0, "all has left")
}

// R4.5: also a response that its owner is done with.
func TestEvictedStreamOfAFinishedResponse(t *testing.T) {
	pool := slab.NewPool(nil)
	p := ready(t, Config{Pool: pool}, judge.Setting{ID: judge.SettingInitialWindowSize, Val: 0})
	p.post(1)
	p.feed()
	s := p.streams[1]
	p.c.SendHead(s, ok200(), false)
	p.c.SendData(s, []byte(strings.Repeat("x", 30000)), true)
	p.c.Reset(s, ErrCodeNo, false) // once all has left
	p.dropFrames()
	if o, _ := p.c.Oldest(); o != s || pool.InUse() == 0 {
		t.Fatalf("oldest %v, %d bytes in use", o, pool.InUse())
	}
	p.c.Evict(s)
	p.wantFrames("RST_STREAM 1 ENHANCE_YOUR_CALM")
	if pool.InUse() != 0 || p.c.ActiveStreams() != 0 {
		t.Errorf("%d bytes in use, %d streams", pool.InUse(), p.c.ActiveStreams())
	}
}

// R4.5: a frame, or a block of several, that its peer does not end.
func TestWhatAPeerBeganAges(t *testing.T) {
	p := ready(t, Config{})
	p.now = 5e9
	p.raw(1, 0, 1, "\x82") // HEADERS without END_HEADERS
	p.feed()
	p.now = 7e9
	p.raw(9, 0, 1, "\x86")
	p.feed()
	if at := p.c.Partial(); at != 5e9 {
		t.Errorf("begun at %d, want 5 s", at)
	}
	p.raw(9, 4, 1, "\x84\x01\x01a")
	p.feed()
	if at := p.c.Partial(); at != 0 {
		t.Errorf("begun at %d though nothing waits", at)
	}
	half := []byte("\x00\x00\x08\x06")
	for now := mono.Time(10e9); now < 14e9; now += 1e9 { // another one each time
		p.now = now
		p.in.Write(half)
		p.feed()
		if at := p.c.Partial(); at < now-1e9 {
			t.Errorf("begun at %d, it is %d", at, now)
		}
		p.in.Write([]byte("\x00\x00\x00\x00\x0012345678"))
		p.feed()
	}
}

// R4.2: credit for the connection when bytes are handed over, for the stream when
// its owner passed them on.
func TestCreditGoesBack(t *testing.T) {
	p := ready(t, Config{ConnWindow: 65535})
	p.consume = false
	p.post(1)
	p.data(1, false, strings.Repeat("x", 40000))
	p.wantFrames("WINDOW_UPDATE 0 40000")
	s := p.streams[1]
	p.c.Consume(s, 30000)
	p.wantFrames()
	p.c.Consume(s, 9999)
	p.wantFrames("WINDOW_UPDATE 1 39999")
	p.c.Consume(s, 5000) // more than there is
	p.data(1, true, "x")
	p.feed()
	p.c.Consume(s, 1)
	p.wantFrames()
}

// R4.1: the window doubles for an owner that keeps pace and a peer that uses it
// up, to 1 MiB; not for a slow owner, nor over half of the budget (R4.2).
func TestWindowGrowsByUse(t *testing.T) {
	full := strings.Repeat("x", 1<<14)
	for _, tc := range []struct {
		name   string
		budget int64
		after  int // what the owner leaves unconsumed
		want   int32
	}{
		{"fast owner", 1 << 30, 0, 1 << 20},
		{"slow owner", 1 << 30, 24 << 10, 64 << 10},
		{"tight budget", 12 << 10, 0, 64 << 10},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pool := slab.NewPool(slab.NewBudget(tc.budget))
			p := ready(t, Config{Pool: pool})
			held := pool.Get(8 << 10)
			defer pool.Put(held)
			p.consume = false
			p.post(1)
			p.feed()
			s := p.streams[1]
			for range 1000 {
				for s.recvWin >= 1<<14 {
					p.data(1, false, full)
					p.feed()
				}
				p.c.Consume(s, int(s.held)-tc.after)
				p.frames()
			}
			if s.size != tc.want {
				t.Errorf("window %d, want %d", s.size, tc.want)
			}
			if got := s.recvWin + s.held + s.owed; got != s.size {
				t.Errorf("recvWin+held+owed = %d, size %d", got, s.size)
			}
		})
	}
}

// R4.2: one stalled stream, or all the window's worth of them, hold up nobody.
func TestStalledStreamsHoldUpNobody(t *testing.T) {
	for _, stalled := range []int{1, 249} {
		pool := slab.NewPool(nil)
		p := ready(t, Config{Pool: pool})
		p.consume = false
		window := strings.Repeat("x", 65536)
		id := uint32(1)
		for range stalled {
			p.post(id)
			p.data(id, false, window)
			p.feed()
			p.frames()
			id += 2
		}
		p.consume = true
		for range 100 {
			p.post(id)
			p.data(id, true, window)
			p.feed()
			s := p.streams[id]
			if s == nil {
				t.Fatalf("%d stalled: stream %d did not come through: %q", stalled, id, p.events[len(p.events)-1])
			}
			p.c.SendHead(s, ok200(), true)
			p.frames()
			id += 2
		}
		if p.c.ActiveStreams() != stalled {
			t.Errorf("%d streams, want %d", p.c.ActiveStreams(), stalled)
		}
	}
}

// R4.2: frames for streams that are gone count against the connection's window,
// which comes back.
func TestConnectionCreditOfDiscardedData(t *testing.T) {
	p := ready(t, Config{ConnWindow: 65535})
	p.post(1)
	p.feed()
	p.c.Reset(p.streams[1], ErrCodeCancel, false)
	p.frames()
	total := 0
	for range 40 {
		p.frame(p.fr.WriteDataPadded(1, false, make([]byte, 10000), make([]byte, 9)))
		p.feed()
		for line := range strings.Lines(p.frames()) {
			var n int
			if _, err := fmt.Sscanf(line, "WINDOW_UPDATE 0 %d", &n); err != nil {
				t.Fatalf("frame %q", line)
			}
			total += n
		}
	}
	if total < 40*10010-32768 || total > 40*10010 {
		t.Errorf("%d bytes of credit for %d", total, 40*10010)
	}
	if p.c.connRecv+p.c.connOwed != 65535 {
		t.Errorf("connection window leaks: %d + %d", p.c.connRecv, p.c.connOwed)
	}
}

// flood repeats do until the connection fails, at most n times.
func (p *peer) flood(n int, do func(i uint32)) (int, string) {
	for i := range n {
		do(uint32(i))
		p.feed()
		p.frames()
		if k := len(p.events); k > 0 && strings.HasPrefix(p.events[k-1], "error") {
			return i, p.events[k-1]
		}
	}
	return n, ""
}

// R4.5.
func TestFloodsEndTheConnection(t *testing.T) {
	for name, do := range map[string]func(p *peer, i uint32){
		"rapid reset":  func(p *peer, i uint32) { p.get(2*i + 1); p.frame(p.fr.WriteRSTStream(2*i+1, judge.ErrCodeCancel)) },
		"MadeYouReset": func(p *peer, i uint32) { p.get(2*i + 1); p.raw(8, 0, 2*i+1, "\x00\x00\x00\x00") },
		"resets of the owner by the peer's fault": func(p *peer, i uint32) {
			p.post(2*i + 1)
			p.feed()
			if s := p.streams[2*i+1]; s != nil {
				p.c.Reset(s, ErrCodeProtocol, true)
			}
		},
		"malformed requests":     func(p *peer, i uint32) { p.head(2*i+1, true, "x=y") },
		"heads too large":        func(p *peer, i uint32) { p.head(2*i+1, true, append(get, "x="+strings.Repeat("y", 70000))...) },
		"streams over the limit": func(p *peer, i uint32) { p.post(2*i + 1) },
		"DATA on closed streams": func(p *peer, i uint32) {
			if i == 0 {
				p.closed(9999)
			}
			p.data(2*i+1, true, "")
		},
		"PING":           func(p *peer, _ uint32) { p.frame(p.fr.WritePing(false, [8]byte{})) },
		"PING acks":      func(p *peer, _ uint32) { p.frame(p.fr.WritePing(true, [8]byte{})) },
		"SETTINGS":       func(p *peer, _ uint32) { p.frame(p.fr.WriteSettings()) },
		"SETTINGS acks":  func(p *peer, _ uint32) { p.frame(p.fr.WriteSettingsAck()) },
		"WINDOW_UPDATE":  func(p *peer, _ uint32) { p.frame(p.fr.WriteWindowUpdate(0, 1)) },
		"PRIORITY":       func(p *peer, _ uint32) { p.frame(p.fr.WritePriority(1, judge.PriorityParam{})) },
		"unknown frames": func(p *peer, _ uint32) { p.raw(0x99, 0, 0, "") },
		"GOAWAY":         func(p *peer, _ uint32) { p.frame(p.fr.WriteGoAway(0, 0, nil)) },
		"RST_STREAM on closed streams": func(p *peer, i uint32) {
			if i == 0 {
				p.closed(1)
			}
			p.frame(p.fr.WriteRSTStream(1, judge.ErrCodeCancel))
		},
		"empty DATA": func(p *peer, i uint32) {
			if i == 0 {
				p.post(1)
			}
			p.data(1, false, "")
		},
		"empty CONTINUATION": func(p *peer, i uint32) {
			if i == 0 {
				p.raw(1, 0, 1, "")
			}
			p.raw(9, 0, 1, "")
		},
		"CONTINUATION of a byte": func(p *peer, i uint32) {
			if i == 0 {
				p.raw(1, 0, 1, "")
			}
			p.raw(9, 0, 1, "\x82")
		},
		"CONTINUATION of 16 KiB": func(p *peer, i uint32) {
			if i == 0 {
				p.raw(1, 0, 1, "")
			}
			p.raw(9, 0, 1, strings.Repeat("\x82", 16384))
		},
		"windows opened by the byte": func(p *peer, i uint32) {
			if i == 0 {
				p.setting(judge.SettingInitialWindowSize, 0)
				p.respond(1, 50000, true)
			}
			p.frame(p.fr.WriteWindowUpdate(1, 1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := ready(t, Config{})
			n, got := p.flood(2500, func(i uint32) { do(p, i) })
			if !strings.HasPrefix(got, "error ENHANCE_YOUR_CALM") {
				t.Errorf("after %d: %q", n, got)
			}
		})
	}
}

// The same at the pace of honest peers.
func TestHonestTrafficIsNoFlood(t *testing.T) {
	for name, do := range map[string]func(p *peer, i uint32){
		"a PING and two WINDOW_UPDATEs for each response": func(p *peer, i uint32) {
			p.respond(2*i+1, 100, true)
			p.frame(p.fr.WritePing(false, [8]byte{}))
			p.frame(p.fr.WriteWindowUpdate(0, 100))
			p.frames()
		},
		"one cancelled request in three": func(p *peer, i uint32) {
			if i%3 != 0 {
				p.closed(2*i + 1)
				return
			}
			p.get(2*i + 1)
			p.frame(p.fr.WriteRSTStream(2*i+1, judge.ErrCodeCancel))
		},
		"a PRIORITY for each stream": func(p *peer, i uint32) {
			p.frame(p.fr.WritePriority(2*i+1, judge.PriorityParam{StreamDep: 0}))
			p.closed(2*i + 1)
		},
		"ten PINGs a second": func(p *peer, _ uint32) {
			p.now += 100e6
			p.frame(p.fr.WritePing(false, [8]byte{}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := ready(t, Config{})
			if n, got := p.flood(5000, func(i uint32) { do(p, i) }); got != "" {
				t.Errorf("after %d: %q", n, got)
			}
		})
	}
}

// R4.5: an HPACK bomb costs no more than its block.
func TestHeaderBomb(t *testing.T) {
	p := ready(t, Config{})
	block := p.block(get...)
	block = append(block, 0x40, 1, 'a', 0x7f, 0xa1, 0x1e)
	block = append(block, strings.Repeat("v", 4000)...)
	block = append(block, strings.Repeat("\xbe", 60000)...)
	p.raw(1, 5, 1, string(block))
	p.feed()
	p.wantEvents("refused NO_ERROR 431 local (head too large)")
	if n := cap(p.c.sh.spaces[0].scratch); n > 256<<10 {
		t.Errorf("scratch of %d bytes", n)
	}
}

func TestManySettingsInOneFrame(t *testing.T) {
	p := ready(t, Config{})
	p.raw(4, 0, 0, strings.Repeat("\x00\x04\x00\x00\x00\x01", 1000))
	p.wantEvents("error ENHANCE_YOUR_CALM: too many settings in a frame")
}

func TestMeterLeaks(t *testing.T) {
	var m meter
	b := Bucket{Burst: 3, PerSecond: 2}
	now := mono.Time(1e9)
	for i := range 3 {
		if !m.take(b, now) {
			t.Fatalf("refused number %d", i)
		}
	}
	for range 3 {
		now += 100e6 // too short to earn one back each
	}
	if now += 250e6; !m.take(b, now) {
		t.Error("refused after 0.55 s")
	}
	if m.take(b, now) {
		t.Error("allowed over the burst")
	}
}
