package shop_test

import (
	"bufio"
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/internal/shop"
)

// talk is a transcript with a store.
type talk struct {
	t  *testing.T
	c  net.Conn
	in *bufio.Reader
}

func dial(t *testing.T, addr string) *talk {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return &talk{t, c, bufio.NewReader(c)}
}

func (k *talk) say(s string) {
	if _, err := k.c.Write([]byte(s + "\n")); err != nil {
		k.t.Helper()
		k.t.Fatal(err)
	}
}

func (k *talk) want(s string) {
	k.t.Helper()
	got, err := k.in.ReadString('\n')
	if err != nil || got != s+"\n" {
		k.t.Fatalf("the store said %q (%v), want %q", got, err, s)
	}
}

func (k *talk) wantEnd() {
	k.t.Helper()
	if b, err := k.in.ReadByte(); err == nil {
		k.t.Fatalf("the store said more: %q…", b)
	}
}

func TestStoreSpeaksFirstAndCounts(t *testing.T) {
	store := start(t, shop.Config{Service: shop.Store, Name: "s"}, (*shop.Instance).ServeStore)
	k := dial(t, store.addr)
	k.want("SHOP-STORE 1 s")
	k.say("ADD r1 ann")
	k.want("OK s 1")
	k.say("ADD r2 ann")
	k.want("OK s 2")
	k.say("GET - ben")
	k.want("OK s 0")
	k.say("DROP r3 ann")
	k.want("ERR want ADD or GET, a request id and a user")
	store.stop()
	k.want("BYE")
	k.wantEnd()
	if r := store.log.records(t); len(r) != 3 || r[0].ID != "r1" || r[2].ID != "" {
		t.Errorf("the store logged %+v", r)
	}
}

func TestStoreAnswersWhatItReadBeforeItStopped(t *testing.T) {
	store := start(t, shop.Config{Service: shop.Store, Name: "s", Settings: shop.Settings{Latency: shop.Duration(200 * time.Millisecond)}}, (*shop.Instance).ServeStore)
	k := dial(t, store.addr)
	k.want("SHOP-STORE 1 s")
	k.say("GET r0 ann")
	k.want("OK s 0")
	k.say("ADD r1 ann")
	stopped := make(chan struct{})
	go func() { store.stop(); close(stopped) }() // ends with the store
	got, err := k.in.ReadString('\n')
	switch {
	case err != nil:
		t.Fatal(err)
	case got == "OK s 1\n":
		k.want("BYE")
	case got != "BYE\n":
		t.Fatalf("the store said %q, want the answer or BYE", got)
	}
	k.wantEnd()
	<-stopped
	if done := len(store.log.records(t)) == 2; done != (got == "OK s 1\n") {
		t.Errorf("the store said %q and logged %+v", got, store.log.records(t))
	}
}

func TestStoreClientRepeatsOnlyAfterBye(t *testing.T) {
	for _, c := range []struct {
		name   string
		script string // what the server says on its connections, in turn
		ok     bool
		asked  int
	}{
		{"BYE in place of an answer", "SHOP-STORE 1 a\n>BYE\n|SHOP-STORE 1 b\n>OK b 4\n", true, 2},
		{"BYE in place of a greeting", "BYE\n|SHOP-STORE 1 b\n>OK b 4\n", true, 1},
		{"a connection that breaks", "SHOP-STORE 1 a\n>|SHOP-STORE 1 b\n>OK b 4\n", false, 1},
		{"a foreign greeting", "220 smtp\n|SHOP-STORE 1 b\n>OK b 4\n", false, 0},
		{"an error", "SHOP-STORE 1 a\n>ERR no\n|SHOP-STORE 1 b\n>OK b 4\n", false, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr, asked := scripted(t, strings.Split(c.script, "|"))
			client := shop.NewStoreClient(addr)
			defer client.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			result, err := client.Do(ctx, "ADD", "r", "ann")
			if (err == nil) != c.ok || c.ok && result != (shop.StoreResult{Instance: "b", Count: 4}) {
				t.Errorf("result %+v, %v", result, err)
			}
			if n := asked(); n != c.asked {
				t.Errorf("the request was sent %d times, want %d", n, c.asked)
			}
		})
	}
}

// scripted is a server that says its script, waiting for a line at each '>', and then closes.
func scripted(t *testing.T, conns []string) (addr string, asked func() int) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	count := make(chan int, 1)
	go func() { // ends with the script or the listener
		n := 0
		defer func() { count <- n }()
		for _, script := range conns {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			in := bufio.NewReader(c)
			for i, say := range strings.Split(script, ">") {
				if i > 0 {
					if _, err := in.ReadString('\n'); err == nil {
						n++
					}
				}
				_, _ = c.Write([]byte(say))
			}
			c.Close()
		}
	}()
	return ln.Addr().String(), func() int { ln.Close(); return <-count }
}
