package h2

import "encoding/binary"

func (c *Conn) onPriority(b []byte) {
	// Only what RFC 9113 leaves of it: a stream cannot depend on itself.
	if binary.BigEndian.Uint32(b)&maxStreamID == c.hdr.id {
		c.badPriority(ErrCodeProtocol, "stream depends on itself")
		return
	}
	c.spendIgnored()
}

// badPriority answers a bad PRIORITY frame, which may come for a stream in any
// state (RFC 9113, section 6.3); RST_STREAM may not, for an idle one.
func (c *Conn) badPriority(code ErrCode, reason string) {
	c.skip = 0
	if c.hdr.length != 5 {
		c.skip = c.hdr.length
	}
	if s := c.table.get(c.hdr.id); s != nil {
		c.streamError(s, code, reason)
		return
	}
	if c.idle(c.hdr.id) {
		c.fail(code, reason)
		return
	}
	if c.spendReset() {
		c.rst(c.hdr.id, code)
	}
}

func (c *Conn) onReset(code ErrCode) {
	s := c.table.get(c.hdr.id)
	if s == nil {
		if c.idle(c.hdr.id) {
			c.fail(ErrCodeProtocol, "RST_STREAM on an idle stream")
			return
		}
		c.spendIgnored()
		return
	}
	if !c.cfg.Client && !c.spendCancel() {
		return
	}
	told := !s.muted
	c.abort(s)
	if told {
		c.ev = Event{Kind: EventReset, Stream: s, Code: code, Unprocessed: c.cfg.Client && code == ErrCodeRefusedStream}
	}
}

func (c *Conn) onPing(b []byte) {
	if c.hdr.has(flagAck) {
		if c.pingSent == 0 || binary.BigEndian.Uint64(b) != c.pingCount {
			c.spendIgnored()
			return
		}
		c.ev = Event{Kind: EventPong, N: int(c.now.Sub(c.pingSent))}
		c.pingSent = 0
		return
	}
	if !c.spend(&c.meters.pings, c.cfg.Flood.Pings, "too many PINGs") {
		return
	}
	var buf [17]byte
	f := appendFrameHeader(buf[:0], frameHeader{length: 8, typ: framePing, flags: flagAck})
	c.ctrl = c.pool.Append(c.ctrl, append(f, b...)...)
}

func (c *Conn) onGoAway(b []byte) {
	last := binary.BigEndian.Uint32(b) & maxStreamID
	if c.goneAway {
		if !c.spendIgnored() {
			return
		}
		last = min(last, c.sweepAbove)
	}
	c.goneAway = true
	c.goneCode = ErrCode(binary.BigEndian.Uint32(b[4:]))
	c.sweepAbove = last
	c.sweeping = true
}

// sweep resets one stream that the peer's GOAWAY said it did not process, the
// newest first, and tells of the GOAWAY when none is left.
func (c *Conn) sweep() {
	s := c.open.last
	if !c.cfg.Client || s == nil || s.ID <= c.sweepAbove {
		c.sweeping = false
		c.ev = Event{Kind: EventGoAway, Code: c.goneCode}
		return
	}
	told := !s.muted
	c.abort(s)
	if told {
		c.ev = Event{Kind: EventReset, Stream: s, Code: ErrCodeRefusedStream, Unprocessed: true}
	}
}

func (c *Conn) onWindowUpdate(n uint32) {
	if !c.spend(&c.meters.windows, c.cfg.Flood.WindowUpdates, "too many WINDOW_UPDATEs") {
		return
	}
	if c.hdr.id == 0 {
		c.connCredit(n)
		return
	}
	s := c.table.get(c.hdr.id)
	switch {
	case s == nil && c.idle(c.hdr.id):
		c.fail(ErrCodeProtocol, "WINDOW_UPDATE on an idle stream")
	case s == nil:
	case n == 0:
		c.streamError(s, ErrCodeProtocol, "WINDOW_UPDATE of zero")
	case s.sendWin+int64(n) > maxWindow:
		c.streamError(s, ErrCodeFlowControl, "stream window overflows")
	default:
		s.sendWin += int64(n)
		c.schedule(s)
	}
}

func (c *Conn) connCredit(n uint32) {
	switch {
	case n == 0:
		c.fail(ErrCodeProtocol, "WINDOW_UPDATE of zero")
	case c.connSend+int64(n) > maxWindow:
		c.fail(ErrCodeFlowControl, "connection window overflows")
	default:
		c.connSend += int64(n)
		c.unblock()
	}
}

// onSettings applies the peer's settings (RFC 9113, section 6.5.2). Of a setting
// that comes twice in one frame only the last counts, but for the table size,
// whose smallest value the encoder must show.
func (c *Conn) onSettings(b []byte) {
	if !c.spend(&c.meters.settings, c.cfg.Flood.Settings, "too many SETTINGS") {
		return
	}
	if c.hdr.has(flagAck) {
		c.selfApplied()
		return
	}
	if len(b) > 6*128 {
		c.fail(ErrCodeEnhanceYourCalm, "too many settings in a frame")
		return
	}
	if !c.peerSeen {
		// RFC 9113, section 6.5.2: unlimited unless the peer says so.
		c.peerStreams = maxStreamID
	}
	window := c.peerWindow
	for ; len(b) > 0; b = b[6:] {
		id, v := settingID(binary.BigEndian.Uint16(b)), binary.BigEndian.Uint32(b[2:])
		if id == settingInitialWindow {
			if v > maxWindow {
				c.fail(ErrCodeFlowControl, "SETTINGS_INITIAL_WINDOW_SIZE too large")
				return
			}
			window = int64(v)
		} else if reason := c.setting(id, v); reason != "" {
			c.fail(ErrCodeProtocol, reason)
			return
		}
	}
	if !c.resizeWindows(window) {
		return
	}
	c.peerSeen = true
	// The acknowledgement goes behind the heads that were encoded before it:
	// they still use the old table size.
	var buf [9]byte
	c.seq = c.pool.Append(c.seq, appendFrameHeader(buf[:0], frameHeader{typ: frameSettings, flags: flagAck})...)
	c.ev = Event{Kind: EventSettings}
}

// setting applies one setting; it returns what is wrong with it, or "".
func (c *Conn) setting(id settingID, v uint32) string {
	switch id {
	case settingTableSize:
		c.enc.SetTableSize(v)
	case settingEnablePush:
		if v > 1 || c.cfg.Client && v == 1 {
			return "bad SETTINGS_ENABLE_PUSH"
		}
	case settingMaxStreams:
		c.peerStreams = v
	case settingMaxFrameSize:
		if v < minFrameSize || v > 1<<24-1 {
			return "bad SETTINGS_MAX_FRAME_SIZE"
		}
		c.peerFrameSize = int(v)
	case settingMaxHeaderList:
		c.peerHeaderList = v
	case settingExtendedConnect:
		// RFC 8441, section 3.
		if v > 1 || v == 0 && c.peerExtended {
			return "bad SETTINGS_ENABLE_CONNECT_PROTOCOL"
		}
		c.peerExtended = v == 1
	}
	return ""
}

// resizeWindows applies SETTINGS_INITIAL_WINDOW_SIZE to all streams, whose
// windows may become negative (RFC 9113, section 6.9.2).
func (c *Conn) resizeWindows(window int64) bool {
	d := window - c.peerWindow
	c.peerWindow = window
	if d == 0 {
		return true
	}
	for s := c.open.first; s != nil; s = s.opened.next {
		if s.sendWin+d > maxWindow {
			c.fail(ErrCodeFlowControl, "SETTINGS_INITIAL_WINDOW_SIZE overflows a window")
			return false
		}
		s.sendWin += d
		if d > 0 {
			c.schedule(s)
		}
	}
	return true
}

// selfApplied notes that the peer has applied our SETTINGS: where we offered a
// smaller window than the RFC's first one, it has shrunk now.
func (c *Conn) selfApplied() {
	if c.selfAcked {
		return
	}
	c.selfAcked = true
	d := c.cfg.Window - c.recvInit
	c.recvInit = c.cfg.Window
	if d == 0 {
		return
	}
	for s := c.open.first; s != nil; s = s.opened.next {
		s.recvWin += d
	}
}
