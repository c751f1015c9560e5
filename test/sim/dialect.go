package sim

import (
	"fmt"
	"strings"
)

// oddChunk frames a piece as RFC 9112, section 7.1 allows it.
func (c *call) oddChunk(b, p []byte) []byte {
	if len(p) == 0 {
		return b
	}
	size := fmt.Sprintf(of(c.s, "%x", "%X", "0%x", "000%X"), len(p))
	b = append(append(b, size...), of(c.s, "", "", ";a", ";f=1", "; ff=\"0;\"")...)
	return append(append(append(b, "\r\n"...), p...), "\r\n"...)
}

// oneHop adds fields that are for this connection alone: nobody behind it may see
// them (R3.2).
func (s *Sim) oneHop(c *call, fs []field) []field {
	if s.o.plain || !s.one(3) || c.old {
		return fs
	}
	s.Kinds.add(KindHabits)
	out := []field{{"Keep-Alive", "timeout=5, max=100"}, {"X-Hop", "1"}, {"x-HOP-2", "2"}, {"Proxy-Connection", "keep-alive"}}
	named := "x-hop, Keep-Alive , X-Hop-2"
	for _, f := range fs {
		if strings.EqualFold(f.name, "connection") {
			f.value += ", " + named
			named = ""
		}
		out = append(out, f)
	}
	if named != "" {
		out = append(out, field{"Connection", named})
	}
	return out
}

// oddHead writes a head as RFC 9112 allows it: an empty line before a request,
// any space around values.
func (s *Sim) oddHead(start string, fs []field) (b []byte) {
	if s.o.plain || !s.one(3) {
		return appendHead(start, fs)
	}
	if !strings.HasPrefix(start, "HTTP/") && s.one(3) {
		b = append(b, "\r\n"...)
	}
	b = append(append(b, start...), "\r\n"...)
	for _, f := range fs {
		b = append(append(b, f.name...), of(s, ":", ": ", ":\t", ":   ")...)
		b = append(append(b, f.value...), of(s, "", " ", "\t ")...)
		b = append(b, "\r\n"...)
	}
	return append(b, "\r\n"...)
}
