package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tulle-mesh/tulle/internal/mesh"
)

// R5.1, R5.2
func TestHandshakeGivesBothIdentitiesAndProtocol(t *testing.T) {
	c, s := pair(t, nil)
	if c.Peer() != idCart || s.Peer() != idWeb || c.ALPN() != "tulle/h2.1" || s.ALPN() != "tulle/h2.1" {
		t.Errorf("peers %q %q, protocols %q %q", c.Peer(), s.Peer(), c.ALPN(), s.ALPN())
	}
	cs := c.conn.ConnectionState()
	if cs.CurveID != tls.X25519MLKEM768 || cs.Version != tls.VersionTLS13 || cs.DidResume {
		t.Errorf("key exchange %v, version %x, resumed %v", cs.CurveID, cs.Version, cs.DidResume)
	}
	if !c.Done() || !s.Done() || c.hs != nil || s.hs != nil {
		t.Error("something of the handshake remains")
	}
	if len(s.Output()) != 0 {
		t.Error("a session ticket was sent")
	}
}

// R5.2: what each end says when the other is not acceptable, and what the other learns.
func TestRefusedPeers(t *testing.T) {
	ca, foreign := newAuthority(t, "root"), newAuthority(t, "foreign")
	type end struct {
		from *authority
		id   mesh.Identity
		edit func(*x509.Certificate)
	}
	good := func(id mesh.Identity) end { return end{from: ca, id: id} }
	for _, tt := range []struct {
		name           string
		client, server end
		refuser        string
		reason         Reason
	}{
		{"server has another identity", good(idWeb), good(idWeb), "client", ReasonIdentity},
		{"server is of a foreign root", good(idWeb), end{foreign, idCart, nil}, "client", ReasonChain},
		{"server has expired", good(idWeb), end{ca, idCart, func(c *x509.Certificate) { c.NotAfter = epoch.Add(-time.Second) }}, "client", ReasonExpired},
		{"server is not valid yet", good(idWeb), end{ca, idCart, func(c *x509.Certificate) { c.NotBefore = epoch.Add(time.Second) }}, "client", ReasonNotYet},
		{"server's leaf is a client's", good(idWeb), end{ca, idCart, func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[1:] }}, "client", ReasonUsage},
		{"client is of a foreign root", end{foreign, idWeb, nil}, good(idCart), "server", ReasonChain},
		{"client has expired", end{ca, idWeb, func(c *x509.Certificate) { c.NotAfter = epoch.Add(-time.Second) }}, good(idCart), "server", ReasonExpired},
		{"client's leaf is a server's", end{ca, idWeb, func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] }}, good(idCart), "server", ReasonUsage},
	} {
		t.Run(tt.name, func(t *testing.T) {
			hold := func(e end) *Credentials {
				c := ca.holder(idWeb)
				if err := c.SetLeaf(e.from.issue(e.id, e.edit)); err != nil {
					t.Fatal(err)
				}
				return c
			}
			c := Client(hold(tt.client), ClientParams{Peer: idCart, ALPN: []string{"tulle/h2.1"}})
			s := Server(hold(tt.server), ServerParams{ALPN: []string{"tulle/h2.1"}})
			cerr, serr := shake(c, s)
			mine, theirs := cerr, serr
			if tt.refuser == "server" {
				mine, theirs = serr, cerr
				if theirs == nil { // TLS 1.3: the client was done first, and reads the alert
					_, theirs = c.Read(make([]byte, 1))
				}
			}
			var ve *VerifyError
			if !errors.As(mine, &ve) || ve.Reason != tt.reason {
				t.Errorf("%s: %v, want reason %v", tt.refuser, mine, tt.reason)
			}
			var alert *AlertError
			if !errors.As(theirs, &alert) || !strings.Contains(alert.Alert, "bad certificate") {
				t.Errorf("the other end learns %v, want an alert", theirs)
			}
			if tt.reason == ReasonIdentity && (ve.Want != idCart || ve.Got != idWeb) {
				t.Errorf("want %q, got %q", ve.Want, ve.Got)
			}
		})
	}
}

// R5.2: never trust on first use.
func TestClientWithoutExpectationRefusesAll(t *testing.T) {
	ca := newAuthority(t, "root")
	c := Client(ca.holder(idWeb), ClientParams{ALPN: []string{"tulle/h2.1"}})
	s := Server(ca.holder(idCart), ServerParams{ALPN: []string{"tulle/h2.1"}})
	cerr, _ := shake(c, s)
	var ve *VerifyError
	if !errors.As(cerr, &ve) || ve.Reason != ReasonIdentity {
		t.Fatal(cerr)
	}
}

// R5.2: the bundle of the moment, not of the moment the session was made.
func TestVerificationUsesTheCurrentBundle(t *testing.T) {
	ca, other := newAuthority(t, "root"), newAuthority(t, "other")
	holder := ca.holder(idWeb)
	c := Client(holder, ClientParams{Peer: idCart, ALPN: []string{"tulle/h2.1"}})
	s := Server(ca.holder(idCart), ServerParams{ALPN: []string{"tulle/h2.1"}})
	holder.SetBundle(other.bundle())
	cerr, _ := shake(c, s)
	var ve *VerifyError
	if !errors.As(cerr, &ve) || ve.Reason != ReasonChain {
		t.Fatal(cerr)
	}
}

// R5.1: no common protocol, no connection; and none without ALPN at all.
func TestProtocolMustBeAgreed(t *testing.T) {
	ca := newAuthority(t, "root")
	s := Server(ca.holder(idCart), ServerParams{ALPN: []string{"tulle/h2.1"}})
	c := Client(ca.holder(idWeb), ClientParams{Peer: idCart, ALPN: []string{"tulle/h2.9"}})
	if cerr, serr := shake(c, s); cerr == nil || serr == nil {
		t.Errorf("unknown protocol accepted: %v, %v", cerr, serr)
	}
	s = Server(ca.holder(idCart), ServerParams{ALPN: []string{"tulle/h2.1"}})
	c = Client(ca.holder(idWeb), ClientParams{Peer: idCart})
	_, serr := shake(c, s)
	var ve *VerifyError
	if !errors.As(serr, &ve) && serr == nil {
		t.Error("no protocol accepted")
	}
}

func TestNoCredentialsNoHandshake(t *testing.T) {
	s := Server(NewCredentials(func() time.Time { return epoch }), ServerParams{})
	if _, done, err := s.Step(nil); !done || err != ErrNoCredentials {
		t.Fatal(done, err)
	}
	s.Stop()
	s.Close()
}

// Only TLS 1.3: an older client is refused.
func TestOlderTLSIsRefused(t *testing.T) {
	ca := newAuthority(t, "root")
	leaf := ca.issue(idWeb, nil)
	s := Server(ca.holder(idCart), ServerParams{ALPN: []string{"tulle/h2.1"}})
	defer s.Close()
	var m memConn
	c := tls.Client(&m, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, Certificates: []tls.Certificate{leaf}, NextProtos: []string{"tulle/h2.1"}})
	_ = c.Handshake() // writes its hello and runs dry
	if _, done, err := s.Step(m.out); !done || err == nil {
		t.Fatal(done, err)
	}
}

// A handshake given up at any step leaves neither coroutine nor goroutine.
func TestStopAtEveryStep(t *testing.T) {
	ca := newAuthority(t, "root")
	hc, hs := ca.holder(idWeb), ca.holder(idCart)
	before := runtime.NumGoroutine()
	for stopAt := range 8 {
		c := Client(hc, ClientParams{Peer: idCart, ALPN: []string{"tulle/h2.1"}})
		s := Server(hs, ServerParams{ALPN: []string{"tulle/h2.1"}})
		var toServer, toClient []byte
		ends := 0
		for step := 0; step < stopAt && ends < 2; step++ {
			if step%2 == 0 {
				out, done, _ := c.Step(toClient)
				toServer = append([]byte(nil), out...)
				if done {
					ends++
				}
				continue
			}
			// half of what came, so that the server also stops in mid-message
			out, done, _ := s.Step(toServer[:len(toServer)/2])
			if !done {
				out, done, _ = s.Step(toServer[len(toServer)/2:])
			}
			toClient = append([]byte(nil), out...)
			if done {
				ends++
			}
		}
		for _, e := range []*Session{c, s} {
			wasDone := e.Done()
			e.Stop()
			e.Stop()
			if _, done, err := e.Step(nil); !done || !wasDone && err == nil {
				t.Errorf("stopped at step %d: done %v, %v", stopAt, done, err)
			}
			e.Close()
		}
	}
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines more than before", n-before)
	}
	if err := goleak.Find(); err != nil {
		t.Error(err)
	}
}

// Steps run on a set of goroutines; a worker may give up while one runs.
func TestStopWhileAStepRunsElsewhere(t *testing.T) {
	ca := newAuthority(t, "root")
	hc, hs := ca.holder(idWeb), ca.holder(idCart)
	for range 50 {
		c := Client(hc, ClientParams{Peer: idCart, ALPN: []string{"tulle/h2.1"}})
		s := Server(hs, ServerParams{ALPN: []string{"tulle/h2.1"}})
		hello, _, _ := c.Step(nil)
		ended := make(chan error)
		go func() {
			_, done, err := s.Step(hello)
			for !done {
				_, done, err = s.Step(nil)
			}
			ended <- err
		}()
		s.Stop()
		if err := <-ended; !errors.Is(err, ErrStopped) {
			t.Fatal(err)
		}
		c.Stop()
	}
	if err := goleak.Find(); err != nil {
		t.Error(err)
	}
}

func TestStepsMayMoveBetweenGoroutinesByteByByte(t *testing.T) {
	ca := newAuthority(t, "root")
	c := Client(ca.holder(idWeb), ClientParams{Peer: idCart, ALPN: []string{"tulle/tcp.1"}})
	s := Server(ca.holder(idCart), ServerParams{ALPN: []string{"tulle/h2.1", "tulle/tcp.1"}})
	type result struct {
		out  []byte
		done bool
		err  error
	}
	elsewhere := func(e *Session, in []byte) result {
		ch := make(chan result)
		go func() {
			out, done, err := e.Step(in)
			ch <- result{append([]byte(nil), out...), done, err}
		}()
		return <-ch
	}
	deliver := func(to *Session, b []byte) (answer []byte) {
		for i := range b {
			r := elsewhere(to, b[i:i+1])
			if r.err != nil {
				t.Fatal(r.err)
			}
			answer = append(answer, r.out...)
			if r.done && i != len(b)-1 {
				t.Fatal("done before the last byte")
			}
		}
		return answer
	}
	toServer := elsewhere(c, nil).out
	toClient := deliver(s, toServer)
	toServer = deliver(c, toClient)
	deliver(s, toServer)
	if !c.Done() || !s.Done() || s.ALPN() != "tulle/tcp.1" {
		t.Fatal(c.Done(), s.Done(), s.ALPN())
	}
}

// R3.6: a FIN in the middle of a handshake is its end.
func TestFINDuringHandshake(t *testing.T) {
	ca := newAuthority(t, "root")
	s := Server(ca.holder(idCart), ServerParams{ALPN: []string{"tulle/h2.1"}})
	if _, done, _ := s.Step([]byte{22, 3, 1}); done {
		t.Fatal("done")
	}
	s.FeedEOF()
	if _, done, err := s.Step(nil); !done || !errors.Is(err, ErrTruncated) {
		t.Fatal(done, err)
	}
	if err := s.Write([]byte("x")); !errors.Is(err, ErrTruncated) {
		t.Error(err)
	}
}

// What the client sends right behind its Finished is there after the handshake.
func TestDataBehindTheHandshakeIsKept(t *testing.T) {
	ca := newAuthority(t, "root")
	c := Client(ca.holder(idWeb), ClientParams{Peer: idCart, ALPN: []string{"tulle/h2.1"}})
	s := Server(ca.holder(idCart), ServerParams{ALPN: []string{"tulle/h2.1"}})
	out, _, _ := c.Step(nil)
	out, _, _ = s.Step(out)
	out, done, err := c.Step(out)
	if !done || err != nil {
		t.Fatal(done, err)
	}
	last := append([]byte(nil), out...)
	want := strings.Repeat("early ", 3000)
	if err := c.Write([]byte(want)); err != nil {
		t.Fatal(err)
	}
	last = c.Take(last)
	if _, done, err := s.Step(last[:len(last)-7]); !done || err != nil {
		t.Fatal(done, err)
	}
	clear(last[:len(last)-7]) // Step does not hold on to its input
	s.Feed(last[len(last)-7:])
	if got := readAll(t, s); got != want {
		t.Fatalf("%d bytes, want %d", len(got), len(want))
	}
}

func TestNotAfterIsTheEarlierOfBothLeaves(t *testing.T) {
	ca := newAuthority(t, "root")
	early := epoch.Add(time.Hour)
	short := ca.holder(idCart)
	if err := short.SetLeaf(ca.issue(idCart, func(c *x509.Certificate) { c.NotAfter = early })); err != nil {
		t.Fatal(err)
	}
	c := Client(ca.holder(idWeb), ClientParams{Peer: idCart, ALPN: []string{"tulle/h2.1"}})
	s := Server(short, ServerParams{ALPN: []string{"tulle/h2.1"}})
	if cerr, serr := shake(c, s); cerr != nil || serr != nil {
		t.Fatal(cerr, serr)
	}
	if !c.NotAfter().Equal(early) || !s.NotAfter().Equal(early) {
		t.Errorf("%v, %v, want %v", c.NotAfter(), s.NotAfter(), early)
	}
}

// A tunnel outlives its leaves, not its root.
func TestRecheck(t *testing.T) {
	ca, next := newAuthority(t, "root"), newAuthority(t, "next")
	now := epoch
	holder := NewCredentials(func() time.Time { return now })
	holder.SetBundle(ca.bundle())
	if err := holder.SetLeaf(ca.issue(idWeb, nil)); err != nil {
		t.Fatal(err)
	}
	c := Client(holder, ClientParams{Peer: idCart, ALPN: []string{"tulle/tcp.1"}})
	s := Server(ca.holder(idCart), ServerParams{ALPN: []string{"tulle/tcp.1"}})
	if cerr, serr := shake(c, s); cerr != nil || serr != nil {
		t.Fatal(cerr, serr)
	}
	check := func(when string, b *Bundle, ok bool) {
		t.Helper()
		err := c.Recheck(b)
		var ve *VerifyError
		if ok != (err == nil) || err != nil && (!errors.As(err, &ve) || ve.Reason != ReasonChain) {
			t.Errorf("%s: %v", when, err)
		}
	}
	check("at once", ca.bundle(), true)
	check("two roots", ca.bundle(next), true)
	check("root withdrawn", next.bundle(), false)
	now = epoch.Add(48 * time.Hour)
	check("leaf run out", ca.bundle(next), true)
	check("leaf run out and root withdrawn", next.bundle(), false)
}
