package oracle

import (
	"strings"
	"testing"
	"time"
)

func TestEveryByteTellsWhereItIsFrom(t *testing.T) {
	p := make([]byte, 1000)
	for off := range int64(20) {
		Fill(p, ResponseKey(7), off)
		if i := Match(p, ResponseKey(7), off); i >= 0 {
			t.Fatalf("offset %d: byte %d does not match itself", off, i)
		}
		k, at, ok := Find(p, 9)
		if !ok || k != ResponseKey(7) || at != off {
			t.Fatalf("offset %d: found %d at %d (%v)", off, k, at, ok)
		}
	}
	p[500] ^= 1
	if i := Match(p, ResponseKey(7), 19); i != 500 {
		t.Errorf("a changed byte is found at %d", i)
	}
	if Match(p[:8], RequestKey(7), 19) < 0 || Match(p[:8], ResponseKey(6), 19) < 0 {
		t.Error("another stream's bytes match")
	}
}

// script is a request of 100 bytes with a response of 200, and an oracle whose
// clock stands at *now.
type script struct {
	o   *Oracle
	r   *Request
	now Time
}

func begin(p Plan) *script {
	s := &script{now: time.Second}
	s.o = New(func() Time { return s.now })
	p.Name, p.Request, p.Response = "POST", 100, 200
	if !p.Tunnel {
		p.Status = 200
	}
	s.r = s.o.Begin(p)
	return s
}

func (s *script) send(a *Attempt, from, to int) {
	p := make([]byte, to-from)
	s.r.Fill(p, int64(from))
	a.Receive(p)
}

func (s *script) answer(a *Attempt, from, to int) {
	p := make([]byte, to-from)
	a.Fill(p, int64(from))
	s.r.Receive(p)
}

// whole plays the request from a to z at one server.
func (s *script) whole() {
	a := s.o.Arrive(s.r.ID, "s0")
	s.r.SentEnd()
	s.send(a, 0, 100)
	a.End()
	s.r.Status(200, s.r.ID, "")
	s.answer(a, 0, 200)
	a.SentEnd()
	s.r.End()
}

func TestWhatIsFound(t *testing.T) {
	for _, tc := range []struct {
		name string
		plan Plan
		play func(s *script)
		want string // of a finding; empty for none
	}{
		{"nothing befalls it", Plan{}, func(s *script) { s.whole() }, ""},
		{"it never ends", Plan{}, func(*script) {}, "never ended for its client"},
		{"an excuse does not cover what never ends", Plan{}, func(s *script) { s.r.Excusef("x") }, "never ended"},
		{"an error without a cause", Plan{}, func(s *script) { s.r.Cut("reset") }, "failed without a cause: reset"},
		{"an error with an excuse", Plan{}, func(s *script) { s.r.Excusef("x"); s.r.Cut("reset") }, ""},
		{"an error with a cause", Plan{}, func(s *script) {
			s.o.Allow(Cause{Name: "x", From: s.now, Until: s.now + 1})
			s.r.Cut("reset")
		}, ""},
		{"a cause before its time", Plan{}, func(s *script) {
			s.o.Allow(Cause{Name: "x", From: 1, Until: s.now - 1})
			s.r.Cut("reset")
		}, "failed without a cause"},
		{"a cause of others", Plan{}, func(s *script) {
			s.o.Allow(Cause{Name: "x", From: 0, Until: 1 << 60, Covers: func(*Request) bool { return false }})
			s.r.Cut("reset")
		}, "failed without a cause"},
		{"the mesh answers", Plan{}, func(s *script) { s.r.Status(503, 0, "no endpoint"); s.r.End() }, "answered 503 by the mesh without a cause: no endpoint"},
		{"another's response", Plan{}, func(s *script) { s.r.Excusef("x"); s.r.Status(200, 5, ""); s.r.End() }, "belongs to request 5"},
		{"processed twice", Plan{}, func(s *script) {
			s.o.Arrive(s.r.ID, "s1").Cut()
			s.r.Excusef("x")
			s.whole()
		}, "processed again, at s0 after s1"},
		{"processed twice as a policy may", Plan{MayRepeat: true}, func(s *script) {
			s.o.Arrive(s.r.ID, "s1").Cut()
			s.whole()
		}, ""},
		{"refused first", Plan{}, func(s *script) { s.o.Arrive(s.r.ID, "s1").Refuse(); s.whole() }, ""},
		{"a response cut that ends", Plan{}, func(s *script) {
			a := s.o.Arrive(s.r.ID, "s0")
			s.r.Excusef("x")
			s.r.Status(200, s.r.ID, "")
			s.answer(a, 0, 150)
			s.r.End()
			a.Cut()
		}, "cut at byte 150 of 200 but ended cleanly"},
		{"a request cut that ends", Plan{}, func(s *script) {
			a := s.o.Arrive(s.r.ID, "s0")
			s.r.Excusef("x")
			s.send(a, 0, 50)
			a.End()
			a.Reset()
			s.r.Cut("reset")
		}, "its body was cut at byte 50 of 100"},
		{"bytes swapped", Plan{}, func(s *script) {
			a := s.o.Arrive(s.r.ID, "s0")
			s.r.Excusef("x")
			s.send(a, 16, 100)
			a.Cut()
			s.r.Cut("reset")
		}, "byte 0 of the request is wrong: it is byte 16 of request 1"},
		{"a server that never hears of an abort", Plan{}, func(s *script) {
			a := s.o.Arrive(s.r.ID, "s0")
			s.r.Abort()
			s.now += 2 * Slack
			a.Cut()
		}, "learnt only after"},
		{"a tunnel's reset that became an end", Plan{Tunnel: true}, func(s *script) {
			a := s.o.Arrive(s.r.ID, "s0")
			s.send(a, 0, 100)
			s.r.Abort()
			a.End()
			a.SentEnd()
		}, "ended cleanly at server s0, but the client did not end it"},
		{"trailers lost", Plan{ResponseTrailers: "a=b;"}, func(s *script) { s.whole() }, `trailers "", "a=b;" were sent`},
		{"interim responses lost", Plan{Interim: 1}, func(s *script) { s.whole() }, "0 interim responses, 1 were sent"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := begin(tc.plan)
			tc.play(s)
			var got []string
			for _, f := range s.o.Judge() {
				got = append(got, f.String())
			}
			all := strings.Join(got, "\n")
			if tc.want == "" && all != "" || !strings.Contains(all, tc.want) {
				t.Errorf("findings:\n%s\nwant: %s", all, tc.want)
			}
		})
	}
}
