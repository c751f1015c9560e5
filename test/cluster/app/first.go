package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"log"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// first connects count times, one after another, says hello at once (hexadecimal; nothing at all is a
// client that waits for its server), and prints how many microseconds after dialling the first byte came.
func first(ctx context.Context, address, count, hello string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	say, err := hex.DecodeString(hello)
	if err != nil {
		return err
	}
	for range n {
		took, err := answer(ctx, address, say)
		if err != nil {
			return err
		}
		fmt.Println(took.Microseconds())
	}
	return nil
}

func answer(ctx context.Context, address string, say []byte) (time.Duration, error) {
	begun := time.Now()
	c, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if err := c.SetDeadline(begun.Add(10 * time.Second)); err != nil {
		return 0, err
	}
	if _, err := c.Write(say); err != nil {
		return 0, err
	}
	if _, err := c.Read(make([]byte, 1)); err != nil {
		return 0, err
	}
	return time.Since(begun), nil
}

// late is a server that takes its time to speak, and does so whatever its client says.
func late(ctx context.Context, address, delay string) error {
	d, err := time.ParseDuration(delay)
	if err != nil {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { l.Close() })
	log.Printf("speaking on %s after %s", address, d)
	for {
		c, err := l.Accept()
		if err != nil {
			return closed(err)
		}
		go func() { // ends after the delay
			defer c.Close()
			time.Sleep(d)
			fmt.Fprintf(c, "220 at last\r\n")
		}()
	}
}

// count answers every HTTP request with how many connections it accepted, and how many of these ended, or
// wait yet, without a request.
func count(ctx context.Context, address string) error {
	var opened, unused atomic.Int64
	s := server(ctx, address, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "opened %d unused %d\n", opened.Load(), unused.Load())
	}))
	s.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		opened.Add(1)
		unused.Add(1)
		return ctx
	}
	var used sync.Map // connections that had a request
	s.ConnState = func(c net.Conn, state http.ConnState) {
		switch state {
		case http.StateActive:
			if _, again := used.LoadOrStore(c, true); !again {
				unused.Add(-1)
			}
		case http.StateClosed, http.StateHijacked:
			used.Delete(c)
		case http.StateNew, http.StateIdle:
		}
	}
	log.Printf("counting on %s", address)
	return closed(s.ListenAndServe())
}
