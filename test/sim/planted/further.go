package main

// further are bugs that were thought of, and some that were found, after the
// first: each in a place of its own.
var further = []bug{
	{
		"stream window of the peer ignored", "proxy/h2/output.go",
		"int64(c.peerFrameSize), s.sendWin, c.connSend))",
		"int64(c.peerFrameSize), max(s.sendWin, 1024), c.connSend))",
	},
	{
		"connection window of the peer ignored", "proxy/h2/output.go",
		"	c.connSend -= int64(n)\n",
		"",
	},
	{
		"a peer's SETTINGS do not resize windows", "proxy/h2/recv_control.go",
		"		s.sendWin += d\n",
		"",
	},
	{
		"the peer's limit of streams ignored", "proxy/h2/send.go",
		" && c.table.n < int(c.peerStreams)",
		"",
	},
	{
		"END_STREAM lost on an empty body", "proxy/exchange/h2_stream.go",
		"	s.conn.e.SendData(s.st, p, end)\n",
		"	if len(p) == 0 {\n		return\n	}\n	s.conn.e.SendData(s.st, p, end)\n",
	},
	{
		"an interim response passed on as final", "proxy/exchange/h2_client.go",
		"		x.ResponseInfo(h)\n",
		"		x.ResponseHead(h, false)\n",
	},
	{
		"body bytes doubled on a retry", "proxy/exchange/request.go",
		"	if len(x.body) > 0 {\n		up.Data(x.body, whole)\n	}\n",
		"	if len(x.body) > 0 {\n		if x.Attempts > 1 {\n			up.Data(x.body, false)\n		}\n		up.Data(x.body, whole)\n	}\n",
	},
	{
		"a POST retried", "proxy/direct.go",
		"	if !r.AnyMethod && !x.Idempotent() {\n",
		"	if !r.AnyMethod && !x.Idempotent() && string(x.Req.Method) != \"POST\" {\n",
	},
	{
		"every stream of a lost hop is unprocessed", "proxy/exchange/h2_client.go",
		"fresh := s.st == nil || s.born == k.fills",
		"fresh := s.st == nil || s.born <= k.fills",
	},
	{
		"another identity accepted", "proxy/mtls/verify.go",
		"if !e.Any && got != e.Want {",
		"if !e.Any && got != e.Want && got == \"\" {",
	},
	{
		"plaintext after a refused handshake", "proxy/direct.go",
		"		o.Cause = balance.CauseIdentity\n",
		"		o.Cause = balance.CauseIdentity\n		if u, ok := x.Att.Endpoint.User.(*endpoint); ok {\n			u.noTLS = 1\n		}\n",
	},
	{
		"GOAWAY's last stream is not the last", "proxy/h2/recv_control.go",
		"|| s.ID <= c.sweepAbove {",
		"|| s.ID < c.sweepAbove {",
	},
	{
		"a request timeout that cuts tunnels", "proxy/exchange/response.go",
		"		x.env.Wire.W.Cancel(&x.deadline)\n	}\n	x.dir",
		"	}\n	x.dir",
	},
	{
		"a deadline that outlives its request", "proxy/exchange/exchange.go",
		"	w.Cancel(&x.deadline)\n	w.Cancel(&x.wait)\n",
		"	w.Cancel(&x.wait)\n",
	},
	{
		"HEAD waits for a body", "proxy/exchange/h1_client.go",
		"k.prsr.NextMessage(h1.Expect{Head: k.headOnly, ",
		"k.prsr.NextMessage(h1.Expect{",
	},
	{
		"a body longer than its length passed on", "proxy/h2/recv_data.go",
		"case s.bodyLeft >= 0 && int64(n) > s.bodyLeft:",
		"case s.bodyLeft < 0 && false:",
	},
	{
		"a body shorter than its length passed on", "proxy/h2/recv_data.go",
		"case s.bodyLeft > int64(n) && c.hdr.has(flagEndStream):",
		"case s.bodyLeft < -1:",
	},
	{
		"route weights ignored", "proxy/route/route.go",
		"	n := rng.Uint64N(sum)\n",
		"	n := rng.Uint64N(sum) * 0\n",
	},
	{
		"a terminating endpoint still chosen", "proxy/balance/balance.go",
		"	case e.Terminating:\n		return ending\n",
		"	case e.Terminating:\n		return home\n",
	},
	{
		"a removed endpoint is still used", "proxy/target.go",
		"		gone = t.bal.Apply(u.Added, u.Removed, now)\n",
		"		gone = t.bal.Apply(u.Added, nil, now)\n",
	},
	{
		"drain does not tell hops", "proxy/inbound.go",
		"		i.h2.Drain()\n	}\n}\n\n// Request",
		"	}\n}\n\n// Request",
	},
	{
		"a policy's denial not applied to requests", "proxy/receive.go",
		"		if !d.Allow {\n",
		"		if !d.Allow && d.Audit {\n",
	},
	{
		"a policy change does not end tunnels", "proxy/inbound.go",
		"	if i.tun != nil {\n		i.tun()\n	}\n", "",
	},
	{
		"tunnel bytes reordered on a partial write", "proxy/wire/write.go",
		"	if c.Buffered() > 0 || c.state != stateOpen || c.sess != nil {",
		"	if c.state != stateOpen || c.sess != nil {",
	},
	{
		"bytes of the server before the tunnel dropped", "proxy/out_tunnel.go",
		"EarlyA: n.buf, EarlyB: n.upBuf,",
		"EarlyA: n.buf,",
	},
	{
		"requests not counted", "proxy/direct.go",
		"		x.Att.HTTP.Request(t.s.now())\n	} else {\n",
		"	} else {\n",
	},
	{
		"tunnels not counted as closed", "proxy/out_tunnel.go",
		"			m.Close(errno(err), s.now())\n			outcome",
		"			outcome",
	},
	{
		"a reset taken for the end of a body", "proxy/exchange/h1_client.go",
		"func (k *H1Client) Failed(err error) { k.failed(err.Error()) }",
		"func (k *H1Client) Failed(error) { k.EOF() }",
	},
	{
		"TLS truncation taken for an end", "proxy/mtls/data.go",
		"	if err == io.EOF {\n		return io.EOF\n	}\n",
		"	if err == io.EOF || err == ErrTruncated {\n		return io.EOF\n	}\n",
	},
	{
		"a tunnel without backpressure", "proxy/tunnel/tunnel.go",
		"		e.c.Pause()\n",
		"",
	},
	{
		"waiters are not woken", "proxy/target.go",
		"	for _, w := range waiting {\n		t.retryWaiter(w)\n	}\n",
		"	t.waiting = waiting\n",
	},
	{
		"fields of the mesh believed from applications", "proxy/receive.go",
		"	if !x.Answered() {\n		hop.Strip(h)\n	}\n",
		"	_ = hop.FieldError\n",
	},
	{
		"unprocessed answers passed on", "proxy/exchange/h2_client.go",
		"		if reason, ok := unprocessed(h); ok {\n",
		"		if reason, ok := unprocessed(h); ok && reason == \"\" {\n",
	},
	{
		"grpc-timeout ignored", "proxy/direct.go",
		"(limit == 0 || v < limit)",
		"(limit != 0 && v < limit)",
	},
	{
		"a half-closed request answered with a close", "proxy/exchange/h1_server.go",
		"		s.reqClose = true // finish the response, then close\n",
		"		s.close(false)\n",
	},
	{
		"a second worker that hears of nothing", "proxy/proxy.go",
		"	p.known.again(t, func",
		"	_ = p.known.again; func(mesh.Target, func(discover.Update)) {}(t, func",
	},
	{
		"a retried tunnel that reads the first refusal", "proxy/out_tunnel.go",
		"c.up, c.buf = up, nil ",
		"c.up = up ",
	},
	{
		"reserved fields in request trailers", "proxy/exchange/request.go",
		"	hop.Strip(h)\n",
		"	_ = hop.FieldError\n",
	},
	{
		"a timed-out request that still waits for a connection", "proxy/exchange/exchange.go",
		"	x.dropUp(h2.ErrCodeCancel) // while the Director knows where it waits\n	x.dir.Failed(x, &f)\n",
		"	x.dir.Failed(x, &f)\n	x.dropUp(h2.ErrCodeCancel)\n",
	},
}
