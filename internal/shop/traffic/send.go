package traffic

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"github.com/tulle-mesh/tulle/internal/shop"
)

// request is one that is due; n counts those of its edge.
type request struct {
	service, id string
	n           int64
}

// sender sends requests of one edge; send may be called by several goroutines.
type sender interface {
	// send fills in what it saw of r; time, service and id are its caller's.
	send(ctx context.Context, r request) shop.Record
	// lasts is how long a request goes on by itself.
	lasts() time.Duration
	close()
}

var senders = map[string]func(addr string, cfg Config) sender{
	shop.Web: func(addr string, _ Config) sender {
		return newHTTP(addr, func(n int64) (method, path string) {
			if n%10 == 9 {
				return http.MethodGet, "/products"
			}
			return http.MethodGet, "/products/" + strconv.FormatInt(n%shop.Products+1, 10)
		})
	},
	shop.Cart: func(addr string, _ Config) sender {
		return newHTTP(addr, func(n int64) (method, path string) {
			user := "/carts/user-" + strconv.FormatInt(n/2%100, 10)
			if n%2 == 0 {
				return http.MethodPost, user + "/items"
			}
			return http.MethodGet, user
		})
	},
	shop.Payments: func(addr string, _ Config) sender {
		return newHTTP(addr, func(int64) (method, path string) { return http.MethodPost, "/charges" })
	},
	shop.Feed: func(addr string, cfg Config) sender { return &feedSender{addr: addr, session: cfg.Session} },
}

// idleTimeout is below what a proxy allows between two requests (R3.5), so that it is always the
// client who closes an idle connection, and no request meets its end.
const idleTimeout = 30 * time.Second

type httpSender struct {
	addr   string
	client *http.Client
	what   func(n int64) (method, path string)
}

func newHTTP(addr string, what func(n int64) (method, path string)) *httpSender {
	return &httpSender{addr: addr, what: what, client: &http.Client{
		Transport:     &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: idleTimeout, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (s *httpSender) lasts() time.Duration { return 0 }

func (s *httpSender) close() { s.client.CloseIdleConnections() }

func (s *httpSender) send(ctx context.Context, r request) shop.Record {
	method, path := s.what(r.n)
	req, err := http.NewRequestWithContext(ctx, method, "http://"+s.addr+path, http.NoBody)
	if err != nil {
		return shop.Record{Error: err.Error()}
	}
	if method == http.MethodGet {
		// net/http repeats a GET by itself when its connection ends before an answer begins. It
		// cannot where there is a body that it cannot read again, be it an empty one.
		req.Body = io.NopCloser(strings.NewReader(""))
	}
	req.Header.Set(shop.RequestID, r.id)
	res, err := s.client.Do(req)
	if err != nil {
		return shop.Record{Error: cause(ctx, err).Error()}
	}
	defer res.Body.Close()
	record := shop.Record{Status: strconv.Itoa(res.StatusCode), OK: res.StatusCode < 500}
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		record.OK, record.Error = false, "body: "+cause(ctx, err).Error()
		return record
	}
	var a shop.Answer
	if err := json.Unmarshal(raw, &a); err != nil { // a proxy's own answer
		record.Error = res.Header.Get("Tulle-Proxy-Error")
		return record
	}
	record.Instance, record.Calls, record.Error = a.Instance, a.Calls, a.Error
	if a.ID != r.id {
		record.OK, record.Error = false, fmt.Sprintf("the answer to request %q came", a.ID)
	}
	return record
}

func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil {
		return c
	}
	return err
}

// feedSender holds sessions of the feed: in each it sends numbered messages and wants each back, in
// order, between the ticks.
type feedSender struct {
	addr    string
	session time.Duration
}

// messages are sent in each session.
const messages = 10

func (s *feedSender) lasts() time.Duration { return s.session }

func (s *feedSender) close() {}

func (s *feedSender) send(ctx context.Context, r request) shop.Record {
	began := time.Now()
	// A client of its own per session: a WebSocket keeps its connection to itself.
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	conn, res, err := websocket.Dial(ctx, "http://"+s.addr+"/feed", &websocket.DialOptions{ //nolint:bodyclose // Dial has read it
		HTTPClient: &http.Client{Transport: transport},
		HTTPHeader: http.Header{shop.RequestID: {r.id}},
	})
	var record shop.Record
	if res != nil {
		record.Status = strconv.Itoa(res.StatusCode)
	}
	if err != nil {
		record.Error = cause(ctx, err).Error()
		return record
	}
	defer conn.CloseNow()
	record.OK = true
	record.MS = shop.Millis(time.Since(began)) // until the upgrade: the rest lasts as long as it should
	if record.Instance, err = s.converse(ctx, conn, r.id); err != nil {
		record.OK, record.Error = false, err.Error()
	}
	return record
}

// converse sends the session's messages and reads what comes until each has come back.
func (s *feedSender) converse(ctx context.Context, conn *websocket.Conn, id string) (instance string, err error) {
	pause := time.NewTicker(max(s.session/messages, time.Millisecond))
	defer pause.Stop()
	for n := range messages {
		text := id + "/" + strconv.Itoa(n)
		if err := wsjson.Write(ctx, conn, shop.Event{Kind: "message", Number: n, Text: text}); err != nil {
			return instance, fmt.Errorf("message %d: %w", n, err)
		}
		for {
			var e shop.Event
			if err := wsjson.Read(ctx, conn, &e); websocket.CloseStatus(err) == websocket.StatusGoingAway {
				return instance, nil // the instance stops, and says so: a client's cue to dial again
			} else if err != nil {
				return instance, fmt.Errorf("echo %d: %w", n, err)
			}
			instance = e.Instance
			if e.Kind == "tick" {
				continue
			}
			if e.Text != text || e.Number != n {
				return instance, fmt.Errorf("echo %d: got %q, want %q", n, e.Text, text)
			}
			break
		}
		<-pause.C
	}
	return instance, conn.Close(websocket.StatusNormalClosure, "")
}
