// Package sim runs whole data planes in one thread: proxies from the same
// constructor as cmd/tulle-proxy, on simulated pollers, clock and randomness,
// between clients and servers of codecs of their own. A seed decides everything
// that happens; test/oracle judges it. The same seed gives the same run, so a
// finding is replayed with
//
//	go test ./test/sim -run TestSeeds -seed=N -v
//
// Discovery and identity stay outside: a table stands in for the streams
// (test/mesh has them), certificates are made once per process.
package sim
