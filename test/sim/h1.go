package sim

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// field is one header or trailer field.
type field struct{ name, value string }

func get(fs []field, name string) string {
	for _, f := range fs {
		if strings.EqualFold(f.name, name) {
			return f.value
		}
	}
	return ""
}

// line is fields in one line, as the oracle compares trailers.
func line(fs []field, lower bool) string {
	var b strings.Builder
	for _, f := range fs {
		if lower {
			f.name = strings.ToLower(f.name)
		}
		b.WriteString(f.name + "=" + f.value + ";")
	}
	return b.String()
}

// framing is how an HTTP/1 body's end is told.
type framing uint8

const (
	framingNone framing = iota
	framingLength
	framingChunked
	framingClose
	framingTunnel // no body: what follows is a tunnel's
	framingInfo   // no body: an interim response, another head follows
)

type h1State uint8

const (
	h1Head h1State = iota
	h1Length
	h1Size
	h1Chunk
	h1ChunkEnd
	h1Trailer
	h1Close
	h1Tunnel
)

// h1Reader reads HTTP/1 messages of either kind: a codec of its own, no more
// lenient than a strict peer.
type h1Reader struct {
	// head says how the message's body is framed.
	head func(start string, fs []field) (framing, int64)
	data func(p []byte)
	end  func(trailers []field)

	buf   []byte
	state h1State
	left  int64
	hold  bool // nothing is read until it is cleared
	trail []field
}

// feed reads p, as far as it may.
func (r *h1Reader) feed(p []byte) error {
	r.buf = append(r.buf, p...)
	for !r.hold {
		more, err := r.step()
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// idle reports whether the reader stands between two messages.
func (r *h1Reader) idle() bool { return r.state == h1Head && len(r.buf) == 0 }

// step reads one element; it is false when more bytes are needed.
func (r *h1Reader) step() (bool, error) {
	switch r.state {
	case h1Head:
		i := bytes.Index(r.buf, []byte("\r\n\r\n"))
		if i < 0 {
			return false, nil
		}
		start, fs, err := parseHead(string(r.buf[:i]))
		if err != nil {
			return false, err
		}
		r.buf = r.buf[i+4:]
		r.begin(r.head(start, fs))
	case h1Length, h1Chunk:
		return r.body()
	case h1Close, h1Tunnel:
		if len(r.buf) == 0 {
			return false, nil
		}
		p := r.buf
		r.buf = nil
		r.data(p)
	case h1Size, h1ChunkEnd, h1Trailer:
		i := bytes.Index(r.buf, []byte("\r\n"))
		if i < 0 {
			return false, nil
		}
		text := string(r.buf[:i])
		r.buf = r.buf[i+2:]
		return true, r.chunkLine(text)
	}
	return true, nil
}

func (r *h1Reader) begin(f framing, n int64) {
	switch {
	case f == framingTunnel:
		r.state = h1Tunnel
	case f == framingClose:
		r.state = h1Close
	case f == framingChunked:
		r.state = h1Size
	case f == framingLength && n > 0:
		r.state, r.left = h1Length, n
	case f == framingInfo:
	default:
		r.end(nil)
	}
}

func (r *h1Reader) body() (bool, error) {
	if len(r.buf) == 0 {
		return false, nil
	}
	n := min(int64(len(r.buf)), r.left)
	p := r.buf[:n]
	r.buf, r.left = r.buf[n:], r.left-n
	whole := r.left == 0
	if whole && r.state == h1Chunk {
		r.state = h1ChunkEnd
		whole = false
	} else if whole {
		r.state = h1Head
	}
	r.data(p)
	if whole {
		r.end(nil)
	}
	return true, nil
}

func (r *h1Reader) chunkLine(text string) error {
	switch r.state {
	case h1ChunkEnd:
		if text != "" {
			return fmt.Errorf("chunk ends with %q", text)
		}
		r.state = h1Size
	case h1Size:
		text, _, _ = strings.Cut(text, ";")
		n, err := strconv.ParseInt(text, 16, 63)
		if err != nil {
			return fmt.Errorf("chunk size %q", text)
		}
		r.left, r.state = n, h1Chunk
		if n == 0 {
			r.state, r.trail = h1Trailer, nil
		}
	default:
		if text == "" {
			r.state = h1Head
			r.end(r.trail)
			return nil
		}
		name, value, ok := strings.Cut(text, ":")
		if !ok {
			return fmt.Errorf("trailer %q", text)
		}
		r.trail = append(r.trail, field{name, strings.TrimSpace(value)})
	}
	return nil
}

func parseHead(text string) (start string, fs []field, err error) {
	lines := strings.Split(text, "\r\n")
	for _, l := range lines[1:] {
		name, value, ok := strings.Cut(l, ":")
		if !ok || name == "" || strings.ContainsAny(name, " \t") {
			return "", nil, fmt.Errorf("field %q", l)
		}
		fs = append(fs, field{name, strings.Trim(value, " \t")})
	}
	return lines[0], fs, nil
}

// appendHead writes a head.
func appendHead(start string, fs []field) (b []byte) {
	b = append(append(b, start...), "\r\n"...)
	for _, f := range fs {
		b = append(append(append(append(b, f.name...), ": "...), f.value...), "\r\n"...)
	}
	return append(b, "\r\n"...)
}

// chunker frames pieces as call's dialect has it.
func (c *call) chunker() func(b, p []byte) []byte {
	if c.s.o.plain {
		return appendChunk
	}
	return c.oddChunk
}

func appendChunk(b, p []byte) []byte {
	if len(p) == 0 {
		return b
	}
	b = strconv.AppendInt(b, int64(len(p)), 16)
	b = append(append(append(b, "\r\n"...), p...), "\r\n"...)
	return b
}

func appendLastChunk(b []byte, trailers []field) []byte {
	b = append(b, "0\r\n"...)
	for _, f := range trailers {
		b = append(append(append(append(b, f.name...), ": "...), f.value...), "\r\n"...)
	}
	return append(b, "\r\n"...)
}
