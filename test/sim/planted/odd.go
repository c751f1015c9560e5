package main

// odd are bugs that show only when peers do what they may and few do, when they do what
// they may not, or when all is over and something has stayed.
var odd = []bug{
	{
		"padding owed to nobody", "proxy/h2/recv_data.go",
		"	s.owed += int32(c.hdr.length - n)\n",
		"",
	},
	{
		"padding of HEADERS decoded", "proxy/h2/recv_head.go",
		"		b = b[:len(b)-pad]\n",
		"",
	},
	{
		"priority of HEADERS not skipped", "proxy/h2/recv_head.go",
		"		c.selfDep = binary.BigEndian.Uint32(b)&maxStreamID == h.id\n		b = b[5:]\n",
		"		c.selfDep = binary.BigEndian.Uint32(b)&maxStreamID == h.id\n",
	},
	{
		"CONTINUATION replaces the block", "proxy/h2/recv_head.go",
		"	c.block = c.pool.Append(c.block, b...)\n	if c.hdr",
		"	c.block = c.pool.Append(c.block[:0], b...)\n	if c.hdr",
	},
	{
		"END_STREAM taken from CONTINUATION", "proxy/h2/recv_head.go",
		"		c.headBlock(c.blockHdr, c.block)\n",
		"		c.headBlock(c.hdr, c.block)\n",
	},
	{
		"interleaved frames in a header block", "proxy/h2/recv.go",
		"	case c.inBlock && (h.typ != frameContinuation || h.id != c.blockHdr.id):\n",
		"	case c.inBlock && h.typ != frameContinuation && h.typ != frameData:\n",
	},
	{
		"CONTINUATION of another stream", "proxy/h2/recv.go",
		"(h.typ != frameContinuation || h.id != c.blockHdr.id)",
		"(h.typ != frameContinuation)",
	},
	{
		"header block without bound", "proxy/h2/recv_head.go",
		"c.fragments > maxFragments || len(c.block)+len(b) > 2*c.cfg.HeaderBytes",
		"c.fragments > 1<<20",
	},
	{
		"late header block not decoded", "proxy/h2/recv_head.go",
		"	case c.wasReset(h.id):\n		if c.discard(b) {",
		"	case c.wasReset(h.id):\n		if c.err == nil {",
	},
	{
		"credit of unwanted data lost", "proxy/h2/recv_data.go",
		"		c.advance(n)\n		d.left -= n\n		c.creditConn(n)\n",
		"		c.advance(n)\n		d.left -= n\n		if d.s != nil {\n			c.creditConn(n)\n		}\n",
	},
	{
		"PING answered with other bytes", "proxy/h2/recv_control.go",
		"	c.ctrl = c.pool.Append(c.ctrl, append(f, b...)...)\n",
		"	c.ctrl = c.pool.Append(c.ctrl, append(f, 0, 0, 0, 0, 0, 0, 0, 1)...)\n",
	},
	{
		"shrunk windows not applied", "proxy/h2/recv_control.go",
		"	if d == 0 {\n		return true\n	}\n	for s := c.open.first; s != nil; s = s.opened.next {\n		if s.sendWin",
		"	if d <= 0 {\n		return true\n	}\n	for s := c.open.first; s != nil; s = s.opened.next {\n		if s.sendWin",
	},
	{
		"grown windows not scheduled", "proxy/h2/recv_control.go",
		"		if d > 0 {\n			c.schedule(s)\n		}\n",
		"",
	},
	{
		"download credited at once", "proxy/exchange/response.go",
		"	x.down.Data(p, end)\n	if end &&",
		"	x.down.Data(p, end)\n	if x.up != nil {\n		x.up.Consume(len(p))\n	}\n	if end &&",
	},
	{
		"HTTP/1 upload without backpressure", "proxy/exchange/h1_server.go",
		"		if s.unconsumed > s.c.High() && !s.gone {\n			s.c.Pause()\n		}\n",
		"",
	},
	{
		"idle timer not moved by data", "proxy/exchange/response.go",
		"	x.firstByte()\n	x.moved()\n",
		"	x.firstByte()\n",
	},
	{
		"gRPC status of trailers not read", "proxy/exchange/response.go",
		"	if x.GRPC {\n		x.grpcStatus(h.Fields)\n	}\n	x.firstByte()",
		"	x.firstByte()",
	},
	{
		"gRPC status of trailers-only not read", "proxy/exchange/response.go",
		"	if x.GRPC && end {",
		"	if x.GRPC && end && h.Status != 200 {",
	},
	{
		"gRPC status past a digit", "proxy/exchange/response.go",
		"		n := 0\n		for _, c := range f[i].Value {",
		"		n := 0\n		for _, c := range f[i].Value[1:] {",
	},
	{
		"in-flight count leaks on cancel", "proxy/exchange/exchange.go",
		"	x.env.InFlight--\n",
		"	if r != Cancelled {\n		x.env.InFlight--\n	}\n",
	},
	{
		"header timer not cleared by a request", "proxy/exchange/h1_server.go",
		"func (s *h1Server) head(h *head.Head) {\n	s.time(timerNone)\n",
		"func (s *h1Server) head(h *head.Head) {\n",
	},
	{
		"tunnels of a shard count for ever", "proxy/out_tunnel.go",
		"			s.tunnels--\n",
		"",
	},
	{
		"inbound tunnels count for ever", "proxy/in_tunnel.go",
		"			s.tunnels--\n",
		"",
	},
	{
		"an inbound dial leaked", "proxy/in_tunnel.go",
		"		if err == nil {\n			up.Close()\n		}\n",
		"",
	},
	{
		"ejection for ever", "proxy/balance/eject.go",
		"	for len(o.all) > 0 && o.all[0].probeAt <= now {",
		"	for len(o.all) > 0 && o.all[0].probeAt < 0 {",
	},
	{
		"policy change ends no upgraded tunnels", "proxy/inbound.go",
		"		i.upgraded[0].Break(h2.ErrCodeCancel) // takes itself out through Finished\n",
		"		_ = h2.ErrCodeCancel\n		i.upgraded = i.upgraded[1:]\n",
	},
	{
		"nobody gives memory up", "proxy/relief.go",
		"case s.relief.queued || !s.p.budget.Tight():",
		"case s.relief.queued || s.p != nil:",
	},
	{
		"who has only just come gives memory up", "proxy/relief.go",
		"if t == 0 || t > about {",
		"if t == 0 || t <= about {",
	},
	{
		"everybody gives memory up, whoever waits longest", "proxy/relief.go",
		"about := first.Add(s.now().Sub(first) / 8)",
		"about := s.now()",
	},
	{
		"more memory is given up than is wanted", "proxy/relief.go",
		"stands && n < reliefPass && s.p.budget.Tight(); n++",
		"stands && n < reliefPass; n++",
	},
	{
		"header blocks never grow old", "proxy/h2/stall.go",
		"return c.partSince }",
		"return c.partSince * 0 }",
	},
}
