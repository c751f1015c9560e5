package balance

import (
	"fmt"
	"strings"
	"time"

	"github.com/tulle-mesh/tulle/internal/mono"
)

// whyMost is how many endpoints WhyNone names.
const whyMost = 5

// WhyNone says how many endpoints there are and why each is out, for the answer of rule R6.5:
// "3 endpoints: 10.1.1.1:80 ejected after 7 failures (reset), 4 s left; …".
func (b *Balancer) WhyNone(now mono.Time) string {
	if len(b.index) == 0 {
		return "no endpoints"
	}
	var s strings.Builder
	if len(b.index) == 1 {
		s.WriteString("1 endpoint: ")
	} else {
		fmt.Fprintf(&s, "%d endpoints: ", len(b.index))
	}
	n := 0
	for _, r := range [...]room{out, ending, away, home} {
		for _, e := range b.rooms[r].all {
			if n++; n > whyMost {
				continue
			}
			if n > 1 {
				s.WriteString("; ")
			}
			s.WriteString(e.Addr.String())
			s.WriteByte(' ')
			e.why(&s, now)
		}
	}
	if n > whyMost {
		fmt.Fprintf(&s, "; and %d more", n-whyMost)
	}
	return s.String()
}

func (e *Endpoint) why(s *strings.Builder, now mono.Time) {
	switch {
	case e.room == out:
		fmt.Fprintf(s, "ejected after %d failures (%s), %s left", e.br.Failures(), e.cause, left(e.probeAt.Sub(now)))
	case e.resting > now:
		fmt.Fprintf(s, "asked to wait, %s left", left(e.resting.Sub(now)))
	case e.room == ending:
		s.WriteString("terminating")
	default:
		s.WriteString("in service")
	}
}

// left shows whole seconds, rounded up.
func left(d time.Duration) string {
	return fmt.Sprintf("%d s", max(0, (d+time.Second-1)/time.Second))
}
