package shop_test

import (
	"context"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"github.com/tulle-mesh/tulle/internal/shop"
)

func TestWebAsksTheCatalogueAndTellsWhoAnswered(t *testing.T) {
	catalog := start(t, shop.Config{Service: shop.Catalog, Name: "catalog-7"}, (*shop.Instance).ServeCatalog)
	web := start(t, shop.Config{Service: shop.Web}, to((*shop.Instance).ServeWeb, catalog.addr))
	c := client(t)
	for _, want := range []struct {
		path, code string
		status     int
		ok         bool
	}{
		{"/products/3", "OK", 200, true},
		{"/products", "OK", 200, true},
		{"/products/99", "NotFound", 404, true},
	} {
		status, a := do(t, c, http.MethodGet, "http://"+web.addr+want.path, "id"+want.path)
		if status != want.status || a.ID != "id"+want.path || len(a.Calls) != 1 {
			t.Fatalf("%s: status %d, answer %+v", want.path, status, a)
		}
		if call := a.Calls[0]; call.Service != shop.Catalog || call.Instance != "catalog-7" || call.Status != want.code || call.OK != want.ok {
			t.Errorf("%s: call %+v", want.path, call)
		}
	}
	web.stop()
	catalog.stop()
	for name, log := range map[string]*lines{"web": web.log, "catalog": catalog.log} {
		var ids []string
		for _, r := range log.records(t) {
			ids = append(ids, r.ID)
		}
		if got := strings.Join(ids, " "); got != "id/products/3 id/products id/products/99" {
			t.Errorf("%s logged the ids %q", name, got)
		}
	}
}

func TestCatalogueThatFailsIsABadGateway(t *testing.T) {
	catalog := start(t, shop.Config{Service: shop.Catalog, Settings: shop.Settings{Fail: 1}}, (*shop.Instance).ServeCatalog)
	web := start(t, shop.Config{Service: shop.Web}, to((*shop.Instance).ServeWeb, catalog.addr))
	status, a := do(t, client(t), http.MethodGet, "http://"+web.addr+"/products/1", "a")
	if status != http.StatusBadGateway || a.Calls[0].OK || a.Calls[0].Status != "Internal" {
		t.Errorf("status %d, calls %+v", status, a.Calls)
	}
}

func TestCartKeepsItemsInTheStore(t *testing.T) {
	store := start(t, shop.Config{Service: shop.Store, Name: "store-1"}, (*shop.Instance).ServeStore)
	cart := start(t, shop.Config{Service: shop.Cart}, to((*shop.Instance).ServeCart, store.addr))
	c := client(t)
	for range 2 {
		do(t, c, http.MethodPost, "http://"+cart.addr+"/carts/ann/items", "")
	}
	_, a := do(t, c, http.MethodGet, "http://"+cart.addr+"/carts/ann", "")
	if items := a.Body.(map[string]any)["items"]; items != 2.0 || a.Calls[0].Instance != "store-1" {
		t.Errorf("items %v, calls %+v", items, a.Calls)
	}
}

func TestFailuresAreAnExactShare(t *testing.T) {
	payments := start(t, shop.Config{Service: shop.Payments, Settings: shop.Settings{Fail: 0.2, Status: 503}}, (*shop.Instance).ServePayments)
	c, failed := client(t), 0
	for range 50 {
		if status, _ := do(t, c, http.MethodPost, "http://"+payments.addr+"/charges", ""); status == 503 {
			failed++
		}
	}
	if failed != 10 {
		t.Errorf("%d of 50 failed, want 10", failed)
	}
}

func TestStopFinishesWhatIsOpen(t *testing.T) {
	payments := start(t, shop.Config{Service: shop.Payments, Settings: shop.Settings{Latency: shop.Duration(300 * time.Millisecond)}}, (*shop.Instance).ServePayments)
	status := make(chan int, 1)
	c := client(t)
	go func() { // ends with the answer
		defer close(status)
		code, _ := do(t, c, http.MethodPost, "http://"+payments.addr+"/charges", "")
		status <- code
	}()
	for payments.Counts().Open == 0 {
		runtime.Gosched() // until the request is being worked on, for 240 ms at least
	}
	payments.stop()
	if code := <-status; code != http.StatusCreated {
		t.Errorf("the open request got %d", code)
	}
}

func TestLingerServesOn(t *testing.T) {
	payments := start(t, shop.Config{Service: shop.Payments, Linger: 300 * time.Millisecond}, (*shop.Instance).ServePayments)
	began, stopped := time.Now(), make(chan struct{})
	go func() { payments.stop(); close(stopped) }() // ends with the instance
	if status, _ := do(t, client(t), http.MethodPost, "http://"+payments.addr+"/charges", ""); status != 201 {
		t.Errorf("status %d while it lingers", status)
	}
	<-stopped
	if d := time.Since(began); d < 300*time.Millisecond {
		t.Errorf("it lingered for %v", d)
	}
}

func TestFeedTicksAndRepeats(t *testing.T) {
	feed := start(t, shop.Config{Service: shop.Feed, Name: "feed-1"}, (*shop.Instance).ServeFeed)
	conn, _, err := websocket.Dial(t.Context(), "http://"+feed.addr+"/feed", &websocket.DialOptions{HTTPClient: client(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	if err := wsjson.Write(t.Context(), conn, shop.Event{Number: 7, Text: "hello"}); err != nil {
		t.Fatal(err)
	}
	seen := map[string]shop.Event{}
	for len(seen) < 2 {
		var e shop.Event
		if err := wsjson.Read(t.Context(), conn, &e); err != nil {
			t.Fatal(err)
		}
		seen[e.Kind] = e
	}
	if e := seen["echo"]; e.Text != "hello" || e.Number != 7 || e.Instance != "feed-1" {
		t.Errorf("echo %+v", e)
	}
	go feed.stop() // ends when the session below has read the goodbye
	for {
		var e shop.Event
		if err := wsjson.Read(t.Context(), conn, &e); err != nil {
			if code := websocket.CloseStatus(err); code != websocket.StatusGoingAway {
				t.Errorf("the session ended with %v, want going away", err)
			}
			break
		}
	}
	feed.stop()
	if r := feed.log.records(t); len(r) != 1 || !r[0].OK {
		t.Errorf("the feed logged %+v, want one session that ended well", r)
	}
}

func TestControlChangesAnInstanceWhileItRuns(t *testing.T) {
	payments := start(t, shop.Config{Service: shop.Payments, Settings: shop.Settings{Latency: shop.Duration(time.Millisecond)}}, (*shop.Instance).ServePayments)
	ln, err := shop.ListenControl(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- shop.Control{Instance: payments.Instance}.Serve(ctx, ln) }() // ends with cancel
	c := client(t)
	patch := func(body string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, "http://"+ln.Addr().String()+"/settings", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	if code := patch(`{"fail": 1, "status": 504}`); code != 200 {
		t.Errorf("PATCH answered %d", code)
	}
	want := shop.Settings{Latency: shop.Duration(time.Millisecond), Fail: 1, Status: 504}
	if got := payments.Settings(); got != want {
		t.Errorf("settings %+v, want %+v: what is not named stays", got, want)
	}
	if status, _ := do(t, c, http.MethodPost, "http://"+payments.addr+"/charges", ""); status != 504 {
		t.Errorf("status %d, want the new settings' 504", status)
	}
	for _, bad := range []string{`{"fail": 2}`, `{"latency": "-1s"}`, `{"status": 200}`, `{"speed": 1}`, `x`} {
		if code := patch(bad); code != 400 || payments.Settings() != want {
			t.Errorf("PATCH %s answered %d and left %+v", bad, code, payments.Settings())
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestControlIsForTheLoopbackAlone(t *testing.T) {
	if ln, err := shop.ListenControl(t.Context(), "0.0.0.0:0"); err == nil {
		ln.Close()
		t.Error("listens on every address")
	}
}
