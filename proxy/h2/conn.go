// Package h2 is an HTTP/2 engine without I/O (RFC 9113, RFC 7541, RFC 8441):
// bytes in, events out; calls in, bytes out. One Conn is one connection in
// either role and belongs to one worker.
//
// What was read goes through Feed, Next until it returns false, and Stash. What
// is to be sent leaves through Output, followed by Drained. The engine answers
// SETTINGS, PING and violations by itself; everything else is its owner's.
//
// Flow control (R4.2): connection credit goes back when bytes are handed to the
// owner, stream credit when the owner says Consume. So a stream that stalls
// holds at most its own window, and no other stream is held up.
package h2

import (
	"encoding/binary"
	"slices"

	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/h2/hpack"
	"github.com/tulle-mesh/tulle/proxy/slab"
)

// congestion is how much of our own control frames and heads may queue before
// reading stops, in bytes (R4.5).
const congestion = 32 << 10

// assumedStreams is how many streams a client opens before the peer said how
// many it takes.
const assumedStreams = 100

// goneKept is how many streams that we reset a connection remembers: frames that
// were on their way are ignored (RFC 9113, section 5.1).
const goneKept = 256

// Conn is one HTTP/2 connection.
type Conn struct {
	// immutable
	cfg  Config
	pool *slab.Pool
	sh   *Shared

	now      mono.Time // of the last call that had one
	activity mono.Time // of the last bytes
	meters   meters

	reader
	writer

	dec   hpack.Decoder
	enc   hpack.Encoder
	space *space // while iterated

	// Streams.
	table    streamTable
	open     streamList // in the order they opened
	dead     *Stream    // closed, memory not free yet
	lastPeer uint32     // highest id that the peer opened (server role)
	recent   uint64     // bit i: the peer opened stream lastPeer-2i
	nextID   uint32     // of the next Open (client role)
	gone     []uint32   // ring of streams that we reset
	goneAt   int

	// Receiving.
	connRecv   int64 // what the peer may still send on the connection
	connOwed   int64 // handed over, not returned yet
	recvInit   int32 // first receive window of a new stream
	selfAcked  bool  // the peer acknowledged our SETTINGS
	err        *ConnError
	errTold    bool
	goneAway   bool   // GOAWAY was received
	sweeping   bool   // streams above sweepAbove are being reset
	sweepAbove uint32 // last id of the peer's GOAWAY
	goneCode   ErrCode

	// The peer's settings.
	peerSeen       bool
	peerStreams    uint32
	peerWindow     int64
	peerFrameSize  int
	peerHeaderList uint32 // 0: unlimited
	peerExtended   bool

	// GOAWAY of ours.
	leaving  bool   // a first GOAWAY was sent
	left     bool   // the last id was named: lastTaken
	lastTake uint32 // streams above it are refused

	pingSent  mono.Time
	pingCount uint64
}

// New returns a connection whose preface and SETTINGS are queued as output.
func New(cfg Config, now mono.Time) *Conn {
	cfg = cfg.withDefaults()
	c := &Conn{cfg: cfg, pool: cfg.Pool, sh: cfg.Shared, now: now, activity: now}
	c.dec = hpack.NewDecoder(hpack.DefaultTableSize)
	c.enc = hpack.NewEncoder()
	c.open.link, c.ready.link, c.blocked.link = openLink, waitingLink, waitingLink
	c.connRecv, c.connSend = int64(cfg.ConnWindow), initialWindow
	// Until the peer has seen our SETTINGS it may fill the window of the RFC.
	c.recvInit = max(cfg.Window, initialWindow)
	c.peerStreams, c.peerWindow, c.peerFrameSize = assumedStreams, initialWindow, minFrameSize
	if cfg.Client {
		c.nextID = 1
		c.ctrl = c.pool.Append(c.ctrl, []byte(preface)...)
	}
	c.prefaced = cfg.Client
	c.greet()
	return c
}

// greet queues our SETTINGS and the connection's window.
func (c *Conn) greet() {
	var buf [128]byte
	b := appendFrameHeader(buf[:0], frameHeader{typ: frameSettings})
	if c.cfg.Client {
		b = appendSetting(b, settingEnablePush, 0)
	} else {
		b = appendSetting(b, settingMaxStreams, c.cfg.MaxConcurrentStreams)
		if c.cfg.Hop || c.cfg.ExtendedConnect {
			b = appendSetting(b, settingExtendedConnect, 1)
		}
	}
	b = appendSetting(b, settingInitialWindow, uint32(c.cfg.Window))
	b = appendSetting(b, settingMaxFrameSize, c.cfg.MaxFrameSize)
	b = appendSetting(b, settingMaxHeaderList, uint32(c.cfg.HeaderBytes))
	b[2] = byte(len(b) - frameHeaderLen)
	if more := c.cfg.ConnWindow - initialWindow; more > 0 {
		b = appendWindowUpdate(b, 0, uint32(more))
	}
	c.ctrl = c.pool.Append(c.ctrl, b...)
}

// Close gives all memory back to the pool. No event follows; calls do nothing.
func (c *Conn) Close() {
	if c.err == nil {
		c.err = &ConnError{Code: ErrCodeNo, Reason: "closed"}
	}
	c.errTold = true
	for c.open.first != nil {
		c.closeStream(c.open.first)
	}
	c.drain = drainList{}
	for s := c.dead; s != nil; s = s.dead {
		s.inDrain = false
	}
	c.reap()
	c.pool.Put(c.stash)
	c.pool.Put(c.block)
	c.pool.Put(c.ctrl)
	c.pool.Put(c.seq)
	c.stash, c.block, c.ctrl, c.seq, c.in = nil, nil, nil, nil, nil
	c.freeSpace()
}

// fail ends the connection: GOAWAY is queued, EventError follows.
func (c *Conn) fail(code ErrCode, reason string) {
	if c.err != nil {
		return
	}
	c.err = &ConnError{Code: code, Reason: reason}
	var buf [128]byte
	c.ctrl = c.pool.Append(c.ctrl, appendGoAway(buf[:0], c.lastPeer, code, reason)...)
}

// spend counts against a budget of R4.5; false: the connection has failed.
func (c *Conn) spend(m *meter, b Bucket, reason string) bool {
	if m.take(b, c.now) {
		return true
	}
	c.fail(ErrCodeEnhanceYourCalm, reason)
	return false
}

func (c *Conn) spendCancel() bool {
	return c.spend(&c.meters.cancels, c.cfg.Flood.Cancels, "too many resets")
}

func (c *Conn) spendReset() bool {
	return c.spend(&c.meters.resets, c.cfg.Flood.Resets, "too many resets")
}

func (c *Conn) spendIgnored() bool {
	return c.spend(&c.meters.ignored, c.cfg.Flood.Ignored, "too many frames without effect")
}

func (c *Conn) spendEmpty() bool {
	return c.spend(&c.meters.empty, c.cfg.Flood.Empty, "too many empty frames")
}

// newStream puts stream id into the tables.
func (c *Conn) newStream(id uint32) *Stream {
	s := c.sh.stream()
	s.ID = id
	s.size, s.recvWin = c.cfg.Window, c.recvInit
	s.sendWin = c.peerWindow
	s.bodyLeft = -1
	c.table.put(s)
	c.open.pushBack(s)
	c.meters.ignored.earn()
	return s
}

// closeStream takes s out of all tables and frees what it holds. Its own memory
// is freed by reap.
func (c *Conn) closeStream(s *Stream) {
	if s.recvEnd && s.sentEnd {
		c.meters.cancels.earn()
		c.meters.resets.earn()
	}
	s.closed = true
	c.pool.Budget().Return(int(s.lent))
	s.lent = 0
	c.table.del(s.ID)
	c.open.remove(s)
	c.unwait(s)
	s.queue.clear(c.pool, c.sh)
	c.pool.Put(s.trailers)
	s.trailers = nil
	if c.data.s == s {
		c.data.s = nil
	}
	s.dead = c.dead
	c.dead = s
}

// abort closes s early: Drained says nothing of it any more.
func (c *Conn) abort(s *Stream) {
	s.drained = 0
	c.closeStream(s)
}

// closeIfDone closes s when both ends have ended.
func (c *Conn) closeIfDone(s *Stream) {
	if s.recvEnd && s.sentEnd && !s.closed {
		c.closeStream(s)
	}
}

// reap frees the memory of closed streams that Drained has not to report.
func (c *Conn) reap() {
	if c.dead == nil {
		return
	}
	var keep *Stream
	for s := c.dead; s != nil; {
		next := s.dead
		if s.inDrain {
			s.dead = keep
			keep = s
		} else {
			c.sh.freeStream(s)
		}
		s = next
	}
	c.dead = keep
}

// remember notes that we reset stream id.
func (c *Conn) remember(id uint32) {
	if len(c.gone) < goneKept {
		c.gone = append(c.gone, id)
		return
	}
	c.gone[c.goneAt] = id
	c.goneAt = (c.goneAt + 1) % goneKept
}

func (c *Conn) wasReset(id uint32) bool { return slices.Contains(c.gone, id) }

// idle reports whether nobody has opened stream id (RFC 9113, section 5.1).
func (c *Conn) idle(id uint32) bool {
	if c.cfg.Client {
		return id&1 == 0 || id >= c.nextID
	}
	return id&1 == 0 || id > c.lastPeer
}

// skipped reports whether the peer passed over stream id, as far as we remember.
func (c *Conn) skipped(id uint32) bool {
	d := (c.lastPeer - id) / 2
	return d < 64 && c.recent>>d&1 == 0
}

func (c *Conn) peerOpened(id uint32) {
	if d := (id - c.lastPeer) / 2; c.lastPeer != 0 && d < 64 {
		c.recent = c.recent<<d | 1
	} else {
		c.recent = 1
	}
	c.lastPeer = id
}

// rst queues RST_STREAM behind what is queued of the stream's heads.
func (c *Conn) rst(id uint32, code ErrCode) {
	var buf [13]byte
	c.seq = c.pool.Append(c.seq, appendRST(buf[:0], id, code)...)
	c.remember(id)
}

// streamError resets a stream because of what the peer did on it.
func (c *Conn) streamError(s *Stream, code ErrCode, reason string) {
	if !c.spendReset() {
		return
	}
	c.rst(s.ID, code)
	told := !s.muted
	c.abort(s)
	if told {
		c.ev = Event{Kind: EventReset, Stream: s, Code: code, Local: true, Reason: reason}
	}
}

// At says what time it is: calls that are not told take place then.
func (c *Conn) At(now mono.Time) { c.now = now }

// ActiveStreams is the number of streams that are not closed.
func (c *Conn) ActiveStreams() int { return c.table.n }

// PeerStreams is how many streams the peer takes at once; false before its first SETTINGS arrived.
func (c *Conn) PeerStreams() (n uint32, known bool) { return c.peerStreams, c.peerSeen }

// PeerExtendedConnect reports whether the peer offers RFC 8441.
func (c *Conn) PeerExtendedConnect() bool { return c.peerExtended }

// GoingAway reports whether either side has sent GOAWAY.
func (c *Conn) GoingAway() bool { return c.goneAway || c.leaving || c.err != nil }

// LastActivity is when bytes last arrived.
func (c *Conn) LastActivity() mono.Time { return c.activity }

// Congested reports that our own answers queue: the owner stops reading until
// Output has taken them (R4.5).
func (c *Conn) Congested() bool { return len(c.ctrl)+len(c.seq) > congestion }

// Ping queues a PING; EventPong answers it. One at a time: a second call before
// the answer does nothing.
func (c *Conn) Ping(now mono.Time) {
	c.now = now
	if c.pingSent != 0 || c.err != nil {
		return
	}
	c.pingSent = now
	c.pingCount++
	var buf [17]byte
	b := appendFrameHeader(buf[:0], frameHeader{length: 8, typ: framePing})
	c.ctrl = c.pool.Append(c.ctrl, binary.BigEndian.AppendUint64(b, c.pingCount)...)
}

// PingOutstanding is when the unanswered Ping was queued, 0 when there is none.
func (c *Conn) PingOutstanding() mono.Time { return c.pingSent }

// GoAway announces the end. graceful: the last id is 2^31-1, so that nothing in
// flight is lost; a second call, or one that is not graceful, names the real one
// (RFC 9113, section 6.8). Streams that are open go on.
func (c *Conn) GoAway(code ErrCode, graceful bool, now mono.Time) {
	c.now = now
	if c.err != nil || c.left {
		return
	}
	last := uint32(maxStreamID)
	if c.leaving || !graceful {
		c.left = true
		c.lastTake = c.lastPeer
		last = c.lastPeer
	}
	c.leaving = true
	var buf [17]byte
	c.ctrl = c.pool.Append(c.ctrl, appendGoAway(buf[:0], last, code, "")...)
}
