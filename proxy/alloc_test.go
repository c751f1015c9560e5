package proxy_test

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/internal/race"
)

// TestARequestThroughTwoProxiesAllocatesLittle holds the whole hot path to its ceiling: accepted
// HTTP/1, the hop over mutual TLS, the application's pool, and back.
func TestARequestThroughTwoProxiesAllocatesLittle(t *testing.T) {
	ceiling(t, canned, benchRequest, len(benchResponse))
}

// TestATunnelThroughTwoProxiesAllocatesLittle is the same for bytes.
func TestATunnelThroughTwoProxiesAllocatesLittle(t *testing.T) {
	const message = "\x00\x01 a message of no protocol that anybody knows\n"
	ceiling(t, echoes, message, len(message))
}

// echoes sends back what comes and allocates nothing per message.
func echoes(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() { // ends with the connection
			defer c.Close()
			buf := make([]byte, 4096)
			for {
				n, err := c.Read(buf)
				if err != nil {
					return
				}
				if _, err := c.Write(buf[:n]); err != nil {
					return
				}
			}
		}()
	}
}

// ceiling sends one message after the other over one connection and wants n bytes back for each.
func ceiling(t *testing.T, serve func(net.Listener), message string, n int) {
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	l := listen(t)
	go serve(l) // ends with the listener
	c, err := net.Dial("tcp", pair(t, addrOf(l)).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	out, buf := []byte(message), make([]byte, n)
	one := func() {
		if _, err := c.Write(out); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, buf); err != nil {
			t.Fatal(err)
		}
	}
	for range 200 { // pools and tables fill
		one()
	}
	// The whole process is counted. Workers that never wait with their processor park for each of a
	// message's events, and a park in Go's netpoller costs an allocation or two; a request costs none.
	if got := testing.AllocsPerRun(2000, one); got > 4 {
		t.Errorf("%v allocations per message, want 4 at most", got)
	}
}
