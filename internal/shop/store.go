package shop

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// The store's protocol is lines that end in LF, at most maxLine bytes. The server speaks first:
//
//	S: SHOP-STORE 1 store-1
//	C: ADD <request id or -> <user>      one item more
//	S: OK store-1 3
//	C: GET <request id or -> <user>      how many items
//	S: OK store-1 3
//
// It answers ERR and a reason to what it cannot do. BYE in place of a greeting or an answer says
// that the server stops and did nothing with what it may have been sent meanwhile.
const (
	greeting = "SHOP-STORE 1 "
	bye      = "BYE"
	maxLine  = 512
)

// ServeStore serves the store on ln until ctx ends, and after that the requests that it has read.
func (i *Instance) ServeStore(ctx context.Context, ln net.Listener) error {
	s := &storeServer{instance: i, items: map[string]int{}, conns: map[*storeSession]struct{}{}}
	go func() { // ends with ctx, or with the accept loop below
		<-i.stopping(ctx)
		ln.Close()
	}()
	err := s.accept(ctx, ln)
	s.stop()
	if ctx.Err() != nil && errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return err
}

// accept begins a session for each connection, until the listener ends.
func (s *storeServer) accept(ctx context.Context, ln net.Listener) error {
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		s.begin(ctx, c)
	}
}

type storeServer struct {
	instance *Instance
	wg       sync.WaitGroup

	mu      sync.Mutex
	items   map[string]int             // guarded by mu
	conns   map[*storeSession]struct{} // guarded by mu
	stopped bool                       // guarded by mu
}

// storeSession is one connection. A session that is between two requests is told BYE by whoever
// stops the server; one that works on a request says it itself.
type storeSession struct {
	conn net.Conn
	busy bool // guarded by storeServer.mu
}

func (s *storeServer) begin(ctx context.Context, c net.Conn) {
	session := &storeSession{conn: c}
	s.mu.Lock()
	s.conns[session] = struct{}{}
	s.mu.Unlock()
	s.wg.Go(func() { // ends with the connection, which stop closes at the latest
		s.serve(context.WithoutCancel(ctx), session)
		c.Close()
		s.mu.Lock()
		delete(s.conns, session)
		s.mu.Unlock()
	})
}

func (s *storeServer) stop() {
	s.mu.Lock()
	s.stopped = true
	for session := range s.conns {
		if !session.busy {
			session.leave()
		}
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// leave says BYE and ends the session's next read.
func (session *storeSession) leave() {
	_, _ = io.WriteString(session.conn, bye+"\n")
	_ = session.conn.SetReadDeadline(time.Unix(1, 0))
}

func (s *storeServer) serve(ctx context.Context, session *storeSession) {
	if _, err := io.WriteString(session.conn, greeting+s.instance.name+"\n"); err != nil {
		return
	}
	in := bufio.NewReaderSize(session.conn, maxLine)
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return
		}
		s.mu.Lock()
		session.busy = !s.stopped
		s.mu.Unlock()
		if !session.busy { // BYE is on its way
			return
		}
		if _, err := io.WriteString(session.conn, s.answer(ctx, string(line))+"\n"); err != nil {
			return
		}
		s.mu.Lock()
		session.busy = false
		stopped := s.stopped
		s.mu.Unlock()
		if stopped {
			session.leave()
			return
		}
	}
}

func (s *storeServer) answer(ctx context.Context, line string) string {
	began := time.Now()
	f := strings.Fields(line)
	if len(f) != 3 || (f[0] != "ADD" && f[0] != "GET") {
		return "ERR want ADD or GET, a request id and a user"
	}
	r := Record{Time: began.UnixMilli(), ID: strings.TrimPrefix(f[1], "-"), Status: "OK", OK: true}
	var out string
	switch fail, err := s.instance.work(ctx); {
	case err != nil:
		return "ERR " + err.Error()
	case fail:
		r.Status, r.OK, r.Error = "ERR", false, "fails on purpose"
		out = "ERR fails on purpose"
	default:
		out = fmt.Sprintf("OK %s %d", s.instance.name, s.apply(f[0], f[2]))
	}
	r.MS = Millis(time.Since(began))
	s.instance.done(r)
	return out
}

func (s *storeServer) apply(verb, user string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if verb == "ADD" {
		s.items[user]++
	}
	return s.items[user]
}
