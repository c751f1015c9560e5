package proxy_test

import (
	"testing"
	"time"
)

// R2.5: a connection that was opened in advance on a port that speaks HTTP
// outlives a time without an application; its request gets an answer.
func TestSilentConnectionOutlivesTheApplication(t *testing.T) {
	shapes(t, nil, func(t *testing.T, w *world) {
		c := w.dial()
		c.send(get)
		s := w.accept()
		s.expect(w.request(get))
		s.send(ok)
		c.expect(ok)
		w.l.Close()
		silent := w.dial()
		silent.nothing(5 * time.Second)
		silent.send(get)
		s.expect(w.request(get)) // the pooled connection still stands
		s.send(ok)
		silent.expect(ok)
	})
}
