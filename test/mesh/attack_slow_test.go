package mesh

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/tulle-mesh/tulle/proxy/hop"
)

// Clients and servers that are slow on purpose (R3.5, R7.4, R2.5): the documented limits end them, a
// metric says which, and nobody waits behind them.

// slowEnv makes the limits short enough for a test and long enough for honest neighbours on a busy machine.
func slowEnv() []string {
	return []string{
		"TULLE_HEADER_TIMEOUT=2s", "TULLE_DETECT_TIMEOUT=2s", "TULLE_HANDSHAKE_TIMEOUT=3s", "TULLE_IDLE_TIMEOUT=5s",
	}
}

// slowClient says begin and then drip, byte by byte, for ever.
type slowClient struct {
	name        string
	door        door
	begin, drip string
	want        string // prefix of what it hears before the end; "": nothing, "*": whatever
	kind        string // of timeout_total; "": none
}

const eachSlow = 10 // of a kind at once

func slowClients(t *testing.T) []slowClient {
	settings := http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	list := []slowClient{
		{"a handshake begun", fromNet, hello(t), "", "*", "handshake"},
		{"a dribbled handshake", fromNet, hello(t) + "\x14\x03\x03\x00\x01\x01\x17\x03\x03\x40\x00", "x", "*", "handshake"},
		{"a record begun", fromNet, hello(t)[:20], "", "", "detect"},
		{"a dribbled hello", fromNet, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "x", "", "detect"},
	}
	for _, d := range []door{fromApp, fromNet} {
		list = append(list,
			slowClient{"a head", d, "GET / HTTP/1.1\r\nHost: x\r\nA: ", "b", "HTTP/1.1 408 ", "header"},
			slowClient{"a head that stops", d, "GET / HTTP/1.1\r\nHost: x\r\n", "", "HTTP/1.1 408 ", "header"},
			slowClient{"a second head", d, "GET /x HTTP/1.1\r\nHost: x\r\n\r\nGET /y HTTP/1.1\r\nHo", "", "HTTP/1.1 200 ", "header"},
			slowClient{"a method", d, "GE", "", "", "detect"},
			slowClient{"a target", d, "GET /", "a", "", "detect"},
			slowClient{"a preface", d, http2.ClientPreface[:10], "", "", "detect"},
			slowClient{"nothing after an answer", d, "GET /x HTTP/1.1\r\nHost: x\r\n\r\n", "", "HTTP/1.1 200 ", ""},
			slowClient{"SETTINGS and nothing", d, settings, "", "*", ""},
			slowClient{"a frame cut short", d, settings + "\x00\x00\xff\x01\x05\x00\x00\x00\x01\x82", "", "*", ""},
			slowClient{"a frame's header cut short", d, settings + "\x00\x00", "", "*", ""},
			slowClient{"a head without its end", d, settings + "\x00\x00\x01\x01\x01\x00\x00\x00\x01\x82", "", "*", ""})
	}
	return list
}

// hello is the ClientHello of somebody of the mesh.
func hello(t *testing.T) string {
	here, there := net.Pipe()
	defer there.Close()
	go func() { // ends with there
		defer here.Close()
		_ = tls.Client(here, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{hop.ALPNHTTP}, MinVersion: tls.VersionTLS13}).Handshake()
	}()
	b := make([]byte, 16<<10)
	n, err := there.Read(b)
	ok(t, err)
	return string(b[:n])
}

// TestSlowClientsAreEnded: all of them at once.
func TestSlowClientsAreEnded(t *testing.T) {
	t.Parallel() // it waits most of the time
	s := newSiege(t, slowEnv()...)
	list := slowClients(t)
	type key struct {
		d    door
		kind string
	}
	wanted, before := map[key]int{}, map[key]float64{}
	for _, c := range list {
		k := key{c.door, c.kind}
		wanted[k] += eachSlow
		before[k] = counted(t, s.admin(c.door), timedOut(c.kind))
	}
	var all sync.WaitGroup
	for _, c := range list {
		for range eachSlow {
			conn := s.knock(t, c.door, s.victim.slot, "")
			all.Go(func() { // ended by a limit of the proxy's, or by its deadline
				if err := c.suffer(conn); err != nil {
					t.Errorf("%s %s: %v", c.name, c.door, err)
				}
			})
		}
	}
	s.served(t) // while all of them are there
	all.Wait()
	s.served(t)
	for k, n := range wanted {
		if got := counted(t, s.admin(k.d), timedOut(k.kind)) - before[k]; k.kind != "" && got < float64(n) {
			t.Errorf("timeout_total of %s %s grew by %v, want %d", k.kind, k.d, got, n)
		}
	}
}

// suffer is the client until the proxy ends it.
func (c *slowClient) suffer(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(4 * long)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, c.begin); err != nil {
		return err
	}
	stop := make(chan struct{})
	var drip sync.WaitGroup
	drip.Go(func() { // ended by stop
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				_, _ = io.WriteString(conn, c.drip) // an end is what the reader hears of
			}
		}
	})
	got, err := io.ReadAll(conn)
	close(stop)
	drip.Wait()
	if err != nil && !isReset(err) {
		return err
	}
	if c.want != "*" && (!strings.HasPrefix(string(got), c.want) || c.want == "" && len(got) > 0) {
		return fmt.Errorf("it heard %q, want %q", got, c.want)
	}
	return nil
}

// TestSlowServersAreGivenUp: R7.4: a peer that takes the connection and never shakes hands.
func TestSlowServersAreGivenUp(t *testing.T) {
	t.Parallel()                                   // it waits most of the time
	s := newSiege(t, "TULLE_HANDSHAKE_TIMEOUT=2s") // for each of three attempts
	l, err := net.Listen("tcp", addrPort(s.net+"6", slotPort(0)).String())
	ok(t, err)
	serveTCP(t, l, func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) })
	s.attack(t, fromApp, timedOut("handshake"), 1, func(t *testing.T) {
		c := newRaw(t, connect(t, addrPort(s.net+"2", slotPort(1000)).String()))
		c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		if got := c.head(); !strings.HasPrefix(got, "HTTP/1.1 504 ") {
			t.Errorf("answered %q", got)
		}
	})
}

// TestSlowBodiesCostLittle: R4.7: a body may be as slow as it likes, since nobody can tell an attack from
// a stream; what it costs is a connection, and R1.5 bounds those.
func TestSlowBodiesCostLittle(t *testing.T) {
	t.Parallel() // it waits most of the time
	s := newSiege(t)
	var slow []*raw
	for _, d := range []door{fromApp, fromNet} {
		for range 100 {
			c := newRaw(t, s.knock(t, d, s.victim.slot, "").(*net.TCPConn))
			c.send("POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx")
			slow = append(slow, c)
		}
	}
	until(t, "requests at the victim", func() bool { return s.victim.now.Load() == int64(len(slow)) })
	s.served(t)
	for _, c := range slow {
		c.Close()
	}
}

// TestConnectionsOverTheLimitAreRefused: R1.5: idle connections fill the proxy; those that are open are
// served on, and once the idle ones are gone so is everybody.
func TestConnectionsOverTheLimitAreRefused(t *testing.T) {
	t.Parallel() // it waits most of the time
	s := newSiege(t, "TULLE_MAX_CONNECTIONS=200")
	s.attack(t, fromNet, refusedFor("connections"), 100, func(t *testing.T) {
		for range 400 {
			c, err := net.Dial("tcp", s.inbound(s.victim.slot)) // those over the limit may be reset at once
			if err == nil {
				t.Cleanup(func() { c.Close() })
			}
		}
	})
}
