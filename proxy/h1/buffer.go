package h1

// Feed gives the parser b, which must stay valid until Stash.
func (p *Parser) Feed(b []byte) {
	if !p.own && len(p.in) > 0 {
		p.Stash()
	}
	if p.own {
		p.take(len(p.more)) // none but after a Feed without Stash
		p.more = b
	} else {
		p.in, p.pos = b, 0
	}
}

// Stash keeps what was not consumed and returns how much that is. After a tunnel
// began that is what Rest returns; after an error, nothing.
func (p *Parser) Stash() int {
	p.pool.PutHead(p.h)
	p.h = nil
	n := p.unread()
	switch {
	case n == 0 || p.state == stateFailed:
		p.release()
		return 0
	case p.own:
		p.take(len(p.more))
		p.shrink(n)
	default:
		p.stash = p.pool.Append(p.stash[:0], p.in[p.pos:]...)
		p.in, p.pos, p.own = p.stash, 0, true
	}
	return n
}

// shrink moves the last n bytes of a stash that was far larger to a smaller one.
func (p *Parser) shrink(n int) {
	if n > cap(p.stash)/4 || cap(p.stash) <= takeBytes {
		return
	}
	small := p.pool.Append(nil, p.in[p.pos:]...)
	p.pool.Put(p.stash)
	p.stash, p.in, p.pos = small, small, 0
}

// Rest is what was not consumed: the early bytes of a tunnel. It dies at the
// next call of Next, Stash or Feed.
func (p *Parser) Rest() []byte {
	if p.own {
		p.take(len(p.more))
	}
	return p.in[p.pos:]
}

// Idle reports whether the parser is between messages and holds nothing.
func (p *Parser) Idle() bool { return p.state == stateHead && p.unread() == 0 }

// Close gives the parser's memory back. It reads nothing afterwards.
func (p *Parser) Close() {
	p.pool.PutHead(p.h)
	p.h = nil
	p.release()
	p.state = stateFailed
}

func (p *Parser) unread() int { return len(p.in) - p.pos + len(p.more) }

func (p *Parser) release() {
	p.pool.Put(p.stash)
	p.in, p.more, p.stash = nil, nil, nil
	p.pos, p.own = 0, false
}

// takeBytes is how much of what was fed goes at a time to the unfinished line or
// head in the stash: what follows that head is not copied.
const takeBytes = 1 << 10

// refill brings bytes into in; false when there are none.
func (p *Parser) refill() bool {
	switch {
	case len(p.more) == 0:
		return false
	case p.pos == len(p.in):
		// Events may refer to the stash until Stash.
		p.in, p.more = p.more, nil
		p.pos, p.own = 0, false
	default:
		p.take(min(len(p.more), takeBytes))
	}
	return true
}

// take moves n bytes of more into the stash.
func (p *Parser) take(n int) {
	if n == 0 {
		return
	}
	if cap(p.stash)-len(p.stash) < n && p.pos >= len(p.stash)/2 {
		p.stash = p.stash[:copy(p.stash, p.stash[p.pos:])]
		p.pos = 0
	}
	p.stash = p.pool.Append(p.stash, p.more[:n]...)
	p.in, p.more = p.stash, p.more[n:]
}
