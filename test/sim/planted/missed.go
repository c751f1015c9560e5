package main

// missed are bugs that the simulation does not find yet: what it has to learn. planted -missed plants them.
var missed = []bug{
	{
		"a refused CONNECT that waits for its tunnel", "proxy/exchange/response.go",
		"(x.upgrading || x.connect) && ", "x.upgrading && ",
	},
	{
		"a budget that never runs out", "proxy/share/bucket.go",
		"b.balance.CompareAndSwap(old, have-int64(n))",
		"b.balance.CompareAndSwap(old, have)",
	},
	{
		"padding not credited to the connection", "proxy/h2/recv_data.go",
		"		d.pad -= n\n		c.creditConn(n)\n",
		"		d.pad -= n\n",
	},
}
