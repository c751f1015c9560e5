package mtls

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/race"
	"github.com/tulle-mesh/tulle/proxy/slab"
)

// readAll reads until s runs dry; it fails on any other end.
func readAll(t testing.TB, s *Session) string {
	t.Helper()
	got, err := drain(s, 1000)
	if err != ErrAgain {
		t.Fatal(err)
	}
	return got
}

func drain(s *Session, size int) (string, error) {
	var got []byte
	p := make([]byte, size)
	for {
		n, err := s.Read(p)
		got = append(got, p[:n]...)
		if err != nil {
			return string(got), err
		}
	}
}

func TestDataInAllSizesAndCuts(t *testing.T) {
	pool := slab.NewPool(nil)
	c, s := pair(t, pool)
	for _, size := range []int{0, 1, 100, maxRecord, maxRecord + 1, 100_000} {
		want := bytes.Repeat([]byte("0123456789abcdefg"), size/17+1)[:size]
		for _, cut := range []int{1, 7, 1000, 1 << 20} {
			if err := c.Write(want); err != nil {
				t.Fatal(err)
			}
			wire := c.Take(nil)
			var got []byte
			for len(wire) > 0 {
				n := min(cut, len(wire))
				part := bytes.Clone(wire[:n])
				s.Feed(part)
				b, err := drain(s, 5000)
				if err != ErrAgain {
					t.Fatal(err)
				}
				clear(part) // dry means swallowed
				got = append(got, b...)
				wire = wire[n:]
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("size %d cut %d: %d bytes came", size, cut, len(got))
			}
		}
	}
	c.Close()
	s.Close()
	if n := pool.InUse(); n != 0 {
		t.Errorf("%d bytes of the pool are still out", n)
	}
}

// One Read takes as many records as are there.
func TestReadGathersRecords(t *testing.T) {
	c, s := pair(t, nil)
	for range 10 {
		if err := c.Write([]byte("piece")); err != nil {
			t.Fatal(err)
		}
	}
	s.Feed(c.Take(nil))
	p := make([]byte, 100)
	if n, err := s.Read(p); n != 50 || err != nil {
		t.Fatal(n, err)
	}
}

// One write is as few records as 16 KiB allows.
func TestWriteMakesFullRecords(t *testing.T) {
	c, _ := pair(t, nil)
	if err := c.Write(make([]byte, 3*maxRecord)); err != nil {
		t.Fatal(err)
	}
	if n, want := len(c.Output()), 3*(maxRecord+recordOverhead); n != want {
		t.Errorf("%d bytes, want %d", n, want)
	}
}

func TestSealPutsWhatWaitsFirst(t *testing.T) {
	pool := slab.NewPool(nil)
	c, s := pair(t, pool)
	if err := c.Write([]byte("one ")); err != nil {
		t.Fatal(err)
	}
	dst, err := c.Seal(pool.Append(nil, []byte("ahead")...), []byte("two"))
	if err != nil || string(dst[:5]) != "ahead" || len(c.Output()) != 0 {
		t.Fatal(err, len(c.Output()))
	}
	s.Feed(dst[5:])
	if got := readAll(t, s); got != "one two" {
		t.Fatal(got)
	}
	pool.Put(dst)
	if n := pool.InUse(); n != 0 {
		t.Errorf("%d bytes of the pool are still out", n)
	}
}

// Input that was not read survives in the session when its buffer is needed.
func TestStashKeepsOrder(t *testing.T) {
	pool := slab.NewPool(nil)
	c, s := pair(t, pool)
	var want string
	for i := range 20 {
		word := fmt.Sprintf("word %d, ", i)
		want += word
		if err := c.Write([]byte(word)); err != nil {
			t.Fatal(err)
		}
		wire := c.Take(nil)
		s.Feed(wire)
		if i%3 == 0 {
			if n := s.Stash(); n == 0 {
				t.Fatal("nothing kept")
			}
			clear(wire)
		}
	}
	if got := readAll(t, s); got != want {
		t.Fatal(got)
	}
	if s.Stash() != 0 || pool.InUse() != 0 {
		t.Errorf("kept %d, in use %d", s.Stash(), pool.InUse())
	}
}

// R3.6, R5.4: close_notify is a half-close, a bare FIN is not an end.
func TestCloseNotifyAndFIN(t *testing.T) {
	t.Run("close_notify, then data the other way", func(t *testing.T) {
		c, s := pair(t, nil)
		if err := c.Write([]byte("last words")); err != nil {
			t.Fatal(err)
		}
		c.CloseNotify()
		c.CloseNotify()
		s.Feed(c.Take(nil))
		s.FeedEOF()
		if got, err := drain(s, 4); got != "last words" || err != io.EOF {
			t.Fatal(got, err)
		}
		if _, err := s.Read(make([]byte, 1)); err != io.EOF {
			t.Fatal("the end does not stay:", err)
		}
		if err := c.Write([]byte("x")); err != ErrClosed {
			t.Error(err)
		}
		if err := s.Write([]byte("answer")); err != nil {
			t.Fatal(err)
		}
		s.CloseNotify()
		c.Feed(s.Take(nil))
		if got, err := drain(c, 100); got != "answer" || err != io.EOF {
			t.Fatal(got, err)
		}
	})
	t.Run("FIN at a record's boundary", func(t *testing.T) {
		c, s := pair(t, nil)
		if err := c.Write([]byte("cut")); err != nil {
			t.Fatal(err)
		}
		s.Feed(c.Take(nil))
		s.FeedEOF()
		if got, err := drain(s, 100); got != "cut" || err != ErrTruncated {
			t.Fatal(got, err)
		}
	})
	t.Run("FIN within a record", func(t *testing.T) {
		c, s := pair(t, nil)
		if err := c.Write([]byte("cut")); err != nil {
			t.Fatal(err)
		}
		wire := c.Take(nil)
		s.Feed(wire[:len(wire)-1])
		if got := readAll(t, s); got != "" {
			t.Fatal(got)
		}
		s.FeedEOF()
		if got, err := drain(s, 100); got != "" || err != ErrTruncated {
			t.Fatal(got, err)
		}
	})
	t.Run("close_notify in pieces behind data", func(t *testing.T) {
		c, s := pair(t, nil)
		if err := c.Write([]byte("data")); err != nil {
			t.Fatal(err)
		}
		c.CloseNotify()
		wire := c.Take(nil)
		s.Feed(wire[:len(wire)-3]) // crypto/tls looks ahead and answers 4 bytes and "again"
		if got := readAll(t, s); got != "data" {
			t.Fatal(got)
		}
		s.Feed(wire[len(wire)-3:])
		if got, err := drain(s, 10); got != "" || err != io.EOF {
			t.Fatal(got, err)
		}
	})
}

func TestForgedRecordBreaksTheSession(t *testing.T) {
	c, s := pair(t, nil)
	if err := c.Write([]byte("truth")); err != nil {
		t.Fatal(err)
	}
	wire := c.Take(nil)
	wire[len(wire)-1] ^= 1
	s.Feed(wire)
	p := make([]byte, 10)
	n, err := s.Read(p)
	if n != 0 || err == nil || err == ErrAgain || err == io.EOF {
		t.Fatal(n, err)
	}
	if _, again := s.Read(p); again != err {
		t.Error("the error does not stay:", again)
	}
	c.Feed(s.Take(nil))
	var alert *AlertError
	if _, err := c.Read(p); !errors.As(err, &alert) {
		t.Error("no alert was sent:", err)
	}
}

func TestReadAndWriteAllocateNothingOfTheirOwn(t *testing.T) {
	if race.Enabled {
		t.Skip("ceilings do not hold under -race")
	}
	for _, size := range []int{100, maxRecord, 3 * maxRecord} {
		pool := slab.NewPool(nil)
		c, s := pair(t, pool)
		data := make([]byte, size)
		wire := make([]byte, 0, 64<<10)
		p := make([]byte, 64<<10)
		run := func() {
			if err := c.Write(data); err != nil {
				t.Fatal(err)
			}
			wire = c.Take(wire[:0])
			s.Feed(wire)
			if n, err := s.Read(p); n != size || err != nil {
				t.Fatal(n, err)
			}
		}
		seal := func() {
			buf, err := c.Seal(pool.Get(1), data)
			if err != nil {
				t.Fatal(err)
			}
			s.Feed(buf)
			if n, err := s.Read(p); n != size || err != nil {
				t.Fatal(n, err)
			}
			pool.Put(buf)
		}
		for _, f := range []func(){run, seal} {
			// crypto/tls allocates its atLeastReader, 24 bytes, for each record
			records := float64((size + maxRecord - 1) / maxRecord)
			if n := testing.AllocsPerRun(200, f); n > records {
				t.Errorf("size %d: %v allocations", size, n)
			}
		}
	}
}

func TestDryReadDoesNotAllocate(t *testing.T) {
	if race.Enabled {
		t.Skip("ceilings do not hold under -race")
	}
	_, s := pair(t, nil)
	p := make([]byte, 100)
	if n := testing.AllocsPerRun(200, func() { _, _ = s.Read(p) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// R5.2
func TestVerifyNames(t *testing.T) {
	ca := newAuthority(t, "root")
	for _, tt := range []struct {
		name   string
		id     string
		edit   func(*x509.Certificate)
		reason Reason
		ok     bool
	}{
		{name: "one identity", id: string(idWeb), ok: true},
		{name: "and a DNS name", id: string(idWeb), edit: func(c *x509.Certificate) { c.DNSNames = []string{"web.shop"} }, ok: true},
		{name: "two identities", id: string(idWeb), edit: func(c *x509.Certificate) { c.URIs = append(c.URIs, c.URIs[0]) }, reason: ReasonNames},
		{name: "no URI", id: string(idWeb), edit: func(c *x509.Certificate) { c.URIs = nil; c.DNSNames = []string{"a"} }, reason: ReasonNames},
		{name: "no name", id: string(idWeb), edit: func(c *x509.Certificate) { c.URIs = nil }, reason: ReasonNames},
		{name: "not of the form", id: "spiffe://tulle.test/web", reason: ReasonNames},
		{name: "escaped", id: "spiffe://tulle.test/ns/shop/sa/%77eb", reason: ReasonNames},
		{name: "with a query", id: string(idWeb) + "?", reason: ReasonNames},
		{name: "an authority", id: string(idWeb), edit: func(c *x509.Certificate) { c.IsCA = true }, reason: ReasonUsage},
		{name: "may sign certificates", id: string(idWeb), edit: func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }, reason: ReasonUsage},
		{name: "may not sign", id: string(idWeb), edit: func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }, reason: ReasonUsage},
		{name: "no usage at all", id: string(idWeb), edit: func(c *x509.Certificate) { c.ExtKeyUsage = nil }, reason: ReasonUsage},
	} {
		t.Run(tt.name, func(t *testing.T) {
			leaf, err := x509.ParseCertificate(ca.issue(mesh.Identity(tt.id), tt.edit).Certificate[0])
			if err != nil {
				t.Fatal(err)
			}
			got, err := Verify([]*x509.Certificate{leaf}, Expect{Bundle: ca.bundle(), Usage: x509.ExtKeyUsageClientAuth, Any: true, At: epoch})
			var ve *VerifyError
			switch {
			case tt.ok && (err != nil || got != idWeb):
				t.Error(got, err)
			case !tt.ok && (!errors.As(err, &ve) || ve.Reason != tt.reason || got != ""):
				t.Errorf("%q, %v, want reason %v", got, err, tt.reason)
			}
		})
	}
}

// A read that ends with a record's last byte may begin the next record, of which
// only a part is there: the rest must still be taken for what it is. Many rounds,
// since what ciphertext looks like as a header is chance.
func TestReadThatEndsWithARecord(t *testing.T) {
	c, s := pair(t, nil)
	body := bytes.Repeat([]byte("0123456789abcdef"), 2*maxRecord/16)
	for round := range 50 {
		if err := c.Write(append(body, "and the rest"...)); err != nil {
			t.Fatal(err)
		}
		wire := c.Take(nil)
		cut := 2*(maxRecord+recordOverhead) + 7 // in the third record
		p := make([]byte, 2*maxRecord)
		s.Feed(wire[:cut])
		if n, err := s.Read(p); n != len(p) || err != nil || !bytes.Equal(p, body) {
			t.Fatal(n, err)
		}
		if n, err := s.Read(p); err != ErrAgain {
			t.Fatal(n, err)
		}
		s.Stash()
		s.Feed(wire[cut:])
		if got := readAll(t, s); got != "and the rest" {
			t.Fatalf("round %d: %q", round, got)
		}
	}
}
