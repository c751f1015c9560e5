package proxy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// reliefBudget is what the proxies of these tests may keep, in bytes.
const reliefBudget = 1 << 20

// reliefTime is how long it takes, at most, until what stands still may be given up.
const reliefTime = 1200 * time.Millisecond

// crowd is a world in which some stand still while others ask.
type crowd struct {
	*world
	app *h2peer // the application's end of the hop's HTTP/2
	c   *h2peer // the client that stands still, where it is one
}

const askH2 = ":method: GET\n:scheme: http\n:path: /\n:authority: a"

// answer has the application answer the next request with n bytes.
func (w *crowd) answer(n int) {
	w.t.Helper()
	if w.app == nil {
		w.app = w.accept().http2(false)
	}
	var id uint32
	for id == 0 {
		f := w.app.frame()
		if _, err := fmt.Sscanf(f, "HEADERS %d", &id); err != nil && !strings.HasPrefix(f, "RST_STREAM") {
			w.t.Fatalf("the application got %s; outbound keeps %d bytes, inbound %d", f, held(w.out), held(w.in))
		}
	}
	w.app.head(id, n == 0, ":status: 200")
	for n > 0 {
		k := min(n, 16<<10)
		n -= k
		w.app.must(w.app.fr.WriteData(id, n == 0, make([]byte, k)))
	}
	w.run(time.Millisecond)
}

// shut is an HTTP/2 client whose windows are shut, a new one now and then.
func (w *crowd) shut(i, every int) *h2peer {
	if i%every == 0 {
		w.c = w.dial().http2(true)
		w.c.must(w.c.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}))
	}
	return w.c
}

// hogs are clients that stand still, one more, or some, with each call: each of its own way to have
// memory kept.
var hogs = map[string]func(w *crowd, i int){ //nolint:gochecknoglobals // a table of a test
	"responses that a window holds back": func(w *crowd, i int) {
		w.shut(i, 20).head(uint32(2*(i%20)+1), true, askH2)
		w.answer(48 << 10)
	},
	"short responses, whole": func(w *crowd, i int) {
		k := w.shut(i, 20)
		for j := range 10 {
			k.head(uint32(2*(i%20*10+j)+1), true, askH2)
			w.answer(3 << 10)
		}
	},
	"bytes that are no HTTP": func(w *crowd, _ int) {
		for range 2 {
			k := w.dial()
			k.e.Pause()
			k.e.Write([]byte("\x00\x01\n"))
			w.accept().e.Write(make([]byte, 200<<10))
			w.run(time.Millisecond)
		}
	},
	"responses over HTTP/1": func(w *crowd, _ int) {
		for range 2 {
			k := w.dial()
			k.e.Pause()
			k.send(get)
			w.accept().e.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + strings.Repeat("x", 200_000)))
			w.run(time.Millisecond)
		}
	},
	"requests that the server does not read": func(w *crowd, _ int) {
		k := w.dial()
		k.e.Write([]byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n" + strings.Repeat("x", 200_000)))
		w.accept().e.Pause()
	},
	"blocks of fields without an end": func(w *crowd, _ int) {
		k := w.dial().http2(true)
		k.must(k.fr.WriteRawFrame(http2.FrameHeaders, 0, 1, []byte{0x82}))
		for range 3 {
			k.must(k.fr.WriteRawFrame(http2.FrameContinuation, 0, 1, []byte(strings.Repeat("\x82", 16<<10))))
		}
		w.run(time.Millisecond)
	},
	"requests that wait behind another": func(w *crowd, _ int) {
		for range 2 {
			k := w.dial()
			k.send(get)
			w.accept()
			k.e.Write([]byte("GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 32<<10)))
			w.run(time.Millisecond)
		}
	},
	"large heads that wait for their answer": func(w *crowd, _ int) {
		k := w.dial()
		k.send("GET / HTTP/1.1\nHost: a\nX: " + strings.Repeat("x", 12<<10) + "\n\n")
		w.accept()
	},
}

// R4.2, R4.5: who stands still costs nobody anything until the memory is wanted by others, who then
// go on.
func TestOthersGoOnWhoeverStandsStill(t *testing.T) {
	for name, hog := range hogs {
		t.Run(name, func(t *testing.T) {
			w := &crowd{world: newWorld(t, shapeMesh, func(k *knobs) {
				k.cfg.BufferBytes = reliefBudget
				k.net.SendBuffer, k.net.ReceiveBuffer = 8<<10, 8<<10
			})}
			other := w.dial().http2(true)
			w.ask(other, 1)
			most := int64(0)
			for i := range 60 {
				hog(w, i)
				if i%10 != 9 {
					continue
				}
				most = max(most, held(w.out), held(w.in))
				w.run(reliefTime)
				w.ask(other, uint32(i/5*2+1))
			}
			evicted := w.out.Counted().Evicted + w.in.Counted().Evicted
			if heads := strings.Contains(name, "heads"); most < reliefBudget/2 || evicted == 0 != heads {
				t.Errorf("%d bytes kept at most, %d evicted", most, evicted)
			}
			t.Logf("at most %d of %d bytes kept, %d evicted", most, int64(reliefBudget), evicted)
		})
	}
}

// ask has k send a request, which must be answered.
func (w *crowd) ask(k *h2peer, id uint32) {
	w.t.Helper()
	k.head(id, true, askH2)
	w.answer(0)
	if got, want := k.frame(), fmt.Sprintf("HEADERS %d END :status: 200;", id); got != want {
		w.t.Fatalf("another client: %s, want %s", got, want)
	}
}

// R4.5: what stands still alone is left alone, and comes whole.
func TestAloneAStoppedReaderMayStop(t *testing.T) {
	w := &crowd{world: newWorld(t, shapeMesh, func(k *knobs) { k.cfg.BufferBytes = reliefBudget })}
	const n = 17
	k := w.shut(0, 1)
	for i := range n {
		k.head(uint32(2*i+1), true, askH2)
		w.answer(48 << 10)
	}
	if held(w.out) < reliefBudget/4*3 {
		t.Fatalf("only %d bytes kept", held(w.out))
	}
	w.run(time.Minute)
	k.must(k.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20}))
	k.must(k.fr.WriteWindowUpdate(0, 1<<30))
	got := map[string]int{}
	for left := n; left > 0; {
		f := k.frame()
		what, rest, _ := strings.Cut(f, " ")
		if what == "RST_STREAM" || what == "end" || what == "GOAWAY" {
			t.Fatalf("got %s after %v", f, got)
		}
		if what == "DATA" {
			id, _, _ := strings.Cut(rest, " ")
			got[id]++
			if strings.HasPrefix(rest, id+" END") {
				left--
			}
		}
	}
	if e := w.out.Counted().Evicted + w.in.Counted().Evicted; e != 0 {
		t.Errorf("%d evicted", e)
	}
}
