package main

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"sync"
	"time"
)

// patience is longer than any request takes, on a machine that is busy with other things too.
const patience = time.Minute

// kind is one way to ask one server. It fails, too, when the library underneath asked more than once.
type kind struct {
	server, name string
	ask          func(ctx context.Context, id, work string) error
}

// send sends rate requests a second, of every kind in turn, until ctx ends, and waits for the answers.
// Each is a line: what it was, when it left and how long it took in microseconds, and what became of it.
func send(ctx context.Context, rate int, urls []string) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	var kinds []kind
	for _, u := range urls {
		more, err := kindsOf(ctx, u)
		if err != nil {
			return err
		}
		kinds = append(kinds, more...)
	}
	j := newJournal()
	var wg sync.WaitGroup
	begun := time.Now()
	n := 0
	for ; ctx.Err() == nil; n++ {
		select { // open loop: what is late leaves at once
		case <-ctx.Done():
		case <-time.After(time.Until(begun.Add(time.Duration(n) * time.Second / time.Duration(rate)))):
		}
		k, id, work := kinds[n%len(kinds)], fmt.Sprintf("%s.%d", host, n), fmt.Sprint(n*7%40)
		wg.Go(func() { // ends with the request
			within, stop := context.WithTimeout(context.WithoutCancel(ctx), patience)
			defer stop()
			left := time.Now()
			err := k.ask(within, id, work)
			outcome := "ok"
			if err != nil {
				outcome = fmt.Sprintf("failed %q", err)
			}
			j.writef("sent %s %s %s %d %d %s", id, k.server, k.name, left.UnixMicro(), time.Since(left).Microseconds(), outcome)
		})
	}
	wg.Wait()
	j.writef("end %d", n)
	return nil
}

// kindsOf are the ways to ask what a URL names. Names are resolved once: how a cluster's DNS fares
// is not what is tried.
func kindsOf(ctx context.Context, raw string) ([]kind, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, err
	}
	addr, err := resolve(ctx, u.Host)
	if err != nil {
		return nil, err
	}
	server := u.Hostname()
	switch u.Scheme {
	case "h1", "h2":
		h := newHTTP(u.Scheme, addr)
		return []kind{{server, u.Scheme + "-get", h.get}, {server, u.Scheme + "-post", h.post}}, nil
	case "grpc":
		g, err := newGRPC(addr)
		if err != nil {
			return nil, err
		}
		return []kind{{server, "grpc-unary", g.unary}, {server, "grpc-stream", g.stream}}, nil
	}
	return nil, fmt.Errorf("%s: neither h1 nor h2 nor grpc", raw)
}

func resolve(ctx context.Context, hostport string) (string, error) {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return "", err
	}
	for {
		addrs, err := net.DefaultResolver.LookupHost(ctx, host)
		if err == nil {
			return net.JoinHostPort(addrs[0], port), nil
		}
		select {
		case <-ctx.Done():
			return "", err
		case <-time.After(200 * time.Millisecond): // a new Service's name takes a moment
		}
	}
}
