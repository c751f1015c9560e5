package shop

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
)

// Event is a message of the feed.
type Event struct {
	// Kind is "tick", which the feed sends unasked, or "echo", its answer to a message.
	Kind string `json:"kind"`
	// Instance is who sent it.
	Instance string `json:"instance,omitempty"`
	// Number counts the ticks of a session; an echo repeats the message's.
	Number int `json:"number"`
	// Text is what an echo repeats.
	Text string `json:"text,omitempty"`
}

// tickEvery is how often the feed sends unasked.
const tickEvery = 500 * time.Millisecond

// ServeFeed serves the feed on ln: GET /feed becomes a WebSocket that ticks, and repeats what it is
// sent.
func (i *Instance) ServeFeed(ctx context.Context, ln net.Listener) error {
	f := &feed{instance: i}
	// Sessions outlive http.Server.Shutdown, which does not know them.
	sessions, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	f.sessions = sessions
	go func() { // ends with ctx; ServeFeed waits for the sessions
		<-i.stopping(ctx)
		stop(ErrStopped)
	}()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /feed", f.accept)
	err := i.serveHTTP(ctx, ln, mux)
	stop(ErrStopped)
	f.wg.Wait()
	return err
}

type feed struct {
	instance *Instance
	sessions context.Context //nolint:containedctx // ends the sessions, which no request's context does after the upgrade
	wg       sync.WaitGroup
}

func (f *feed) accept(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	f.wg.Add(1) // before the upgrade, until which the server's Shutdown waits for the request
	defer f.wg.Done()
	record := Record{Time: began.UnixMilli(), ID: r.Header.Get(RequestID), Status: "101", OK: true}
	switch fail, err := f.instance.work(r.Context()); {
	case err != nil: // the client left
		return
	case fail:
		code := f.instance.Settings().status()
		w.WriteHeader(code)
		record.Status, record.OK, record.Error = strconv.Itoa(code), code < 500, "fails on purpose"
	default:
		if err := f.converse(w, r); err != nil { //nolint:contextcheck // a session outlives its request's context and ends with the instance
			record.OK, record.Error = false, err.Error()
		}
	}
	record.MS = Millis(time.Since(began))
	f.instance.done(record)
}

// converse upgrades the request and holds the session.
func (f *feed) converse(w http.ResponseWriter, r *http.Request) error {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return err // Accept has answered: this was no WebSocket
	}
	return f.session(conn)
}

// session ticks and repeats until the client or the instance ends it. What it reads and writes is
// not under f.sessions: a context that ends breaks off a frame, and with it the connection.
func (f *feed) session(conn *websocket.Conn) error {
	defer conn.CloseNow()
	ctx := context.WithoutCancel(f.sessions)
	read := make(chan error, 1)
	go func() { read <- f.repeat(ctx, conn) }() // ends with the connection, which is closed on every way out
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case err := <-read:
			return ended(err)
		case <-f.sessions.Done():
			err := conn.Close(websocket.StatusGoingAway, ErrStopped.Error())
			return ended(errors.Join(err, ended(<-read)))
		case <-tick.C:
			if err := send(ctx, conn, Event{Kind: "tick", Instance: f.instance.name, Number: n}); err != nil {
				conn.CloseNow()
				return ended(<-read)
			}
		}
	}
}

// repeat answers messages until the connection ends.
func (f *feed) repeat(ctx context.Context, conn *websocket.Conn) error {
	for {
		var e Event
		if err := wsjson.Read(ctx, conn, &e); err != nil {
			return err
		}
		e.Kind, e.Instance = "echo", f.instance.name
		if err := send(ctx, conn, e); err != nil {
			return err
		}
	}
}

// send writes e, or gives the client up.
func send(ctx context.Context, conn *websocket.Conn, e Event) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return wsjson.Write(ctx, conn, e)
}

// ended is nil for the ends of a session that are none of its faults.
func ended(err error) error {
	if code := websocket.CloseStatus(err); code == websocket.StatusNormalClosure || code == websocket.StatusGoingAway {
		return nil
	}
	return err
}
