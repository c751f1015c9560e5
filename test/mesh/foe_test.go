package mesh

import (
	"bytes"
	bigendian "encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// foe is one end of an HTTP/2 connection that keeps to no rule. What it wants to say is collected and
// leaves with flush; what it is told is noted by a reader of its own.
type foe struct {
	t testing.TB
	net.Conn

	out bytes.Buffer
	f   *http2.Framer
	enc *hpack.Encoder
	blk bytes.Buffer

	ended chan struct{} // the connection is over

	mu     sync.Mutex // guards the rest
	goAway *http2.GoAwayFrame
	resets map[uint32]http2.ErrCode
	heads  map[uint32]string // :status, or :path of a request
	fields map[uint32]fields // of the last head
	order  []uint32          // streams, as their heads came
	bytes  int               // of DATA
}

// newFoe begins as a client, with the preface.
func newFoe(t testing.TB, c net.Conn) *foe {
	t.Helper()
	ok(t, c.SetDeadline(deadline(t)))
	e := foeOn(t, c)
	e.out.WriteString(http2.ClientPreface)
	ok(t, e.f.WriteSettings())
	go e.listen() // ends with the connection
	t.Cleanup(func() { c.Close(); <-e.ended })
	return e
}

// foeOn is one that has said nothing yet, and does not listen.
func foeOn(t testing.TB, c net.Conn) *foe {
	e := &foe{t: t, Conn: c, ended: make(chan struct{}), resets: map[uint32]http2.ErrCode{}, heads: map[uint32]string{}, fields: map[uint32]fields{}}
	e.f = http2.NewFramer(&e.out, nil)
	e.f.AllowIllegalWrites = true
	e.enc = hpack.NewEncoder(&e.blk)
	return e
}

// listen notes what comes.
func (e *foe) listen() {
	defer close(e.ended)
	f := http2.NewFramer(io.Discard, e.Conn)
	f.SetMaxReadFrameSize(1<<24 - 1)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for {
		fr, err := f.ReadFrame()
		if _, bad := errors.AsType[http2.StreamError](err); bad {
			continue
		}
		if err != nil {
			return
		}
		e.note(fr)
	}
}

func (e *foe) note(fr http2.Frame) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch fr := fr.(type) {
	case *http2.GoAwayFrame:
		e.goAway = &http2.GoAwayFrame{FrameHeader: fr.FrameHeader, LastStreamID: fr.LastStreamID, ErrCode: fr.ErrCode}
	case *http2.RSTStreamFrame:
		e.resets[fr.StreamID] = fr.ErrCode
	case *http2.MetaHeadersFrame:
		if strings.HasPrefix(fr.PseudoValue("status"), "1") { // the final one is what counts
			return
		}
		e.order = append(e.order, fr.StreamID)
		e.heads[fr.StreamID] = fr.PseudoValue("status") + fr.PseudoValue("path")
		var list fields
		for _, h := range fr.Fields {
			list = append(list, h.Name+": "+h.Value)
		}
		e.fields[fr.StreamID] = list
	case *http2.DataFrame:
		e.bytes += len(fr.Data())
	}
}

// flush sends what was collected, in pieces, and reports whether the connection lives.
func (e *foe) flush() bool {
	for e.out.Len() > 0 {
		if e.over() {
			return false
		}
		if _, err := e.Write(e.out.Next(4 << 10)); err != nil {
			return false
		}
	}
	return true
}

func (e *foe) over() bool {
	select {
	case <-e.ended:
		return true
	default:
		return false
	}
}

// head collects HEADERS.
func (e *foe) head(id uint32, end bool, list fields) {
	e.blk.Reset()
	for _, f := range list {
		name, value, _ := strings.Cut(f[1:], ": ")
		name = f[:1] + name
		if strings.HasPrefix(f, ": ") { // a name without a byte
			name, value = "", f[2:]
		}
		ok(e.t, e.enc.WriteField(hpack.HeaderField{Name: name, Value: value}))
	}
	e.block(id, end, e.blk.Bytes())
}

// block collects HEADERS with a block as it is, continued where it is long.
func (e *foe) block(id uint32, end bool, b []byte) {
	const most = 16 << 10
	first := b[:min(len(b), most)]
	b = b[len(first):]
	ok(e.t, e.f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: first, EndStream: end, EndHeaders: len(b) == 0}))
	for len(b) > 0 {
		next := b[:min(len(b), most)]
		b = b[len(next):]
		ok(e.t, e.f.WriteContinuation(id, len(b) == 0, next))
	}
}

// say collects a frame of any kind.
func (e *foe) say(kind http2.FrameType, flags http2.Flags, id uint32, payload string) {
	ok(e.t, e.f.WriteRawFrame(kind, flags, id, []byte(payload)))
}

// number is a payload of four bytes.
func number(n uint32) string { return string(bigendian.BigEndian.AppendUint32(nil, n)) }

// setting is a payload of SETTINGS.
func setting(id http2.SettingID, v uint32) string {
	return string(bigendian.BigEndian.AppendUint16(nil, uint16(id))) + number(v)
}

// wantStatus waits for the answer to a stream.
func (e *foe) wantStatus(id uint32, want string) {
	e.t.Helper()
	got := ""
	until(e.t, "answer to the stream", func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		got = e.heads[id]
		return got != "" || e.over()
	})
	if got != want {
		e.t.Errorf("stream %d is answered %q, want %q", id, got, want)
	}
}

// wantReset waits for a stream's reset.
func (e *foe) wantReset(id uint32, want http2.ErrCode) {
	e.t.Helper()
	var got http2.ErrCode
	var has bool
	until(e.t, "reset of the stream", func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		got, has = e.resets[id]
		return has || e.heads[id] != "" || e.over()
	})
	if !has || got != want {
		e.t.Errorf("stream %d: reset %v with %v, want %v; it was answered %q", id, has, got, want, e.heads[id])
	}
}

// wantEnd waits for the end of the connection, which a GOAWAY explains.
func (e *foe) wantEnd(want http2.ErrCode) {
	e.t.Helper()
	until(e.t, "end of the connection", e.over)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.goAway == nil || e.goAway.ErrCode != want {
		e.t.Errorf("the connection ended with %v, want %v", e.goAway, want)
	}
}

// wantRequest waits, as a server, for the first request; it returns its stream, or 0 when there was none.
func (e *foe) wantRequest() uint32 {
	for {
		e.mu.Lock()
		n, id := len(e.order), uint32(0)
		if n > 0 {
			id = e.order[0]
		}
		e.mu.Unlock()
		if n > 0 || e.over() {
			return id
		}
		pause(time.Millisecond)
	}
}

// field is the value of a stream's last head's field.
func (e *foe) field(id uint32, name string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, f := range e.fields[id] {
		if v, has := strings.CutPrefix(f, name+": "); has {
			return v
		}
	}
	return ""
}
