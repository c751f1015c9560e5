package shop

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// StoreClient asks a store. It keeps connections between requests; its methods are safe for use by
// several goroutines.
type StoreClient struct {
	addr string

	mu     sync.Mutex
	idle   []*storeConn // guarded by mu
	closed bool         // guarded by mu
}

const (
	keepIdle = 16  // connections kept
	useMost  = 100 // requests per connection, so that connections come and go under steady traffic
	byeMost  = 3   // attempts, when servers stop
)

type storeConn struct {
	net.Conn
	in   *bufio.Reader
	uses int
}

// StoreResult is what a store answered.
type StoreResult struct {
	Instance string
	Count    int
}

// errBye is a server that stopped and did nothing with the request.
var errBye = errors.New("the store stops")

// NewStoreClient returns a client that dials addr when it needs to.
func NewStoreClient(addr string) *StoreClient { return &StoreClient{addr: addr} }

// Close ends the connections that are kept.
func (c *StoreClient) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, conn := range c.idle {
		conn.Close()
	}
	c.idle = nil
}

// Do sends one request. It is repeated only when a server said that it did nothing with it.
func (c *StoreClient) Do(ctx context.Context, verb, id, user string) (StoreResult, error) {
	if id == "" {
		id = "-"
	}
	var result StoreResult
	var err error
	for range byeMost {
		if result, err = c.try(ctx, verb+" "+id+" "+user+"\n"); !errors.Is(err, errBye) {
			break
		}
	}
	return result, err
}

func (c *StoreClient) try(ctx context.Context, line string) (StoreResult, error) {
	if len(line) > maxLine {
		return StoreResult{}, fmt.Errorf("request of %d bytes: want at most %d", len(line), maxLine)
	}
	conn, err := c.take(ctx)
	if err != nil {
		return StoreResult{}, err
	}
	release := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer release()
	// What the server said before it broke off counts more than that the write failed: it may be BYE.
	_, writeErr := conn.Write([]byte(line))
	answer, err := conn.line()
	if err != nil {
		conn.Close()
		return StoreResult{}, errors.Join(context.Cause(ctx), err, writeErr)
	}
	result, err := parseAnswer(answer)
	if errors.Is(err, errBye) || !release() {
		conn.Close()
		return result, err
	}
	c.keep(conn)
	return result, err
}

// take returns a connection that was kept, or a new one whose greeting was read.
func (c *StoreClient) take(ctx context.Context) (*storeConn, error) {
	c.mu.Lock()
	if n := len(c.idle); n > 0 {
		conn := c.idle[n-1]
		c.idle = c.idle[:n-1]
		c.mu.Unlock()
		return conn, nil
	}
	c.mu.Unlock()
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp", c.addr)
	if err != nil {
		return nil, err
	}
	conn := &storeConn{Conn: raw, in: bufio.NewReaderSize(raw, maxLine)}
	release := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer release()
	hello, err := conn.line()
	if err == nil && hello == bye {
		err = errBye
	}
	if err == nil && !strings.HasPrefix(hello, greeting) {
		err = fmt.Errorf("greeting %q: want %q and a name", hello, greeting)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func (c *StoreClient) keep(conn *storeConn) {
	conn.uses++
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || conn.uses >= useMost || len(c.idle) >= keepIdle {
		conn.Close()
		return
	}
	c.idle = append(c.idle, conn)
}

func (c *storeConn) line() (string, error) {
	b, err := c.in.ReadSlice('\n')
	return strings.TrimSuffix(string(b), "\n"), err
}

func parseAnswer(line string) (StoreResult, error) {
	if line == bye {
		return StoreResult{}, errBye
	}
	if reason, ok := strings.CutPrefix(line, "ERR "); ok {
		return StoreResult{}, errors.New(reason)
	}
	f := strings.Fields(line)
	if len(f) != 3 || f[0] != "OK" {
		return StoreResult{}, fmt.Errorf("answer %q: want OK, a name and a number", line)
	}
	n, err := strconv.Atoi(f[2])
	return StoreResult{Instance: f[1], Count: n}, err
}
