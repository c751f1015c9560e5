//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// http1Codec asks one thing at a time.
type http1Codec struct {
	body int
	due  int64
	need int // bytes of the body that are missing, -1 before the head
}

func (*http1Codec) begin(*loadConn) {}

var (
	requestIDAt = strings.Index(requestHead, "5f2b6c0e")
	traceAt     = strings.Index(requestHead, "4bf92f35")
)

func (h *http1Codec) request(c *loadConn, due int64) {
	h.due = due
	at := len(c.out)
	c.out = append(c.out, requestHead...)
	vary(c.out[at+requestIDAt:], c.g.serial)
	vary(c.out[at+traceAt:], c.g.serial)
}

func (h *http1Codec) responses(c *loadConn, b []byte) ([]byte, error) {
	for len(b) > 0 {
		if h.need < 0 {
			n := bytes.Index(b, headEnd)
			if n < 0 {
				return b, nil
			}
			if err := h.head(b[:n+2]); err != nil {
				return nil, err
			}
			b = b[n+len(headEnd):]
		}
		n := min(h.need, len(b))
		h.need -= n
		b = b[n:]
		if h.need == 0 {
			h.need = -1
			c.done(h.due)
		}
	}
	return b, nil
}

var (
	goodStatus  = []byte("HTTP/1.1 200")
	lengthUpper = []byte("\r\nContent-Length: ")
	lengthLower = []byte("\r\ncontent-length: ")
)

// head checks a response's head; the name that is told of its length is written in one of two ways.
func (h *http1Codec) head(b []byte) error {
	if !bytes.HasPrefix(b, goodStatus) {
		return fmt.Errorf("answered with %q", b[:min(len(b), 120)])
	}
	at := bytes.Index(b, lengthUpper)
	if at < 0 {
		at = bytes.Index(b, lengthLower)
	}
	if at < 0 {
		return errors.New("a response without Content-Length")
	}
	n := 0
	for _, d := range b[at+len(lengthUpper):] {
		if d < '0' || d > '9' {
			break
		}
		n = n*10 + int(d-'0')
	}
	if n != h.body {
		return fmt.Errorf("a body of %d bytes, want %d", n, h.body)
	}
	h.need = n
	return nil
}

// tcpCodec sends a message and waits for its echo.
type tcpCodec struct{ due int64 }

func (*tcpCodec) begin(*loadConn) {}

var tcpRequest = payload(tcpMessage)

func (t *tcpCodec) request(c *loadConn, due int64) {
	t.due = due
	c.out = append(c.out, tcpRequest...)
}

func (t *tcpCodec) responses(c *loadConn, b []byte) ([]byte, error) {
	if len(b) < tcpMessage {
		return b, nil
	}
	if len(b) > tcpMessage || b[0] != tcpRequest[0] || b[tcpMessage-1] != tcpRequest[tcpMessage-1] {
		return nil, errors.New("another echo than what was sent")
	}
	c.done(t.due)
	return nil, nil
}

// grpcCodec keeps calls in flight on one connection. What it has of HPACK refers to the table that
// the first request fills, so the peer's table must have the size that is the default.
type grpcCodec struct {
	body         int
	first, later []byte
	message      []byte
	nextID       uint32
	calls        [1 << 12]call // by stream
	received     int
}

type call struct {
	due  int64
	got  int
	open bool
}

const (
	hexID   = 32
	traceID = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	// Both from the end of a block.
	traceBack   = len(traceID) - len("00-")
	requestBack = hexID + 1 + len("\x0btraceparent") + 1 + len(traceID)
)

func newGRPCCodec(body int) *grpcCodec {
	g := &grpcCodec{body: body, nextID: 1}
	g.first, g.later = blocks([]byte{0x83, 0x86}, []field{
		{":authority", "web.bench:8080"}, {":path", "/pkg.Service/Method"}, {"content-type", "application/grpc"},
		{"user-agent", "grpc-go/1.80.0"}, {"te", "trailers"}, {"grpc-timeout", "1S"},
	}, []field{{"x-request-id", "5f2b6c0e9d3a4f1b8c7e6d5a4b3c2d1e"}, {"traceparent", traceID}})
	g.message = append(binary.BigEndian.AppendUint32([]byte{0}, callMessage), payload(callMessage)...)
	return g
}

func (g *grpcCodec) begin(c *loadConn) {
	c.out = append(c.out, preface...)
	c.out = appendFrame(c.out, frameSettings, 0, 0, []byte{0, 2, 0, 0, 0, 0, 0, 4, 0, 0x10, 0, 0})
	c.out = window(c.out, 16<<20)
}

func (g *grpcCodec) at(id uint32) *call { return &g.calls[id>>1%uint32(len(g.calls))] }

func (g *grpcCodec) request(c *loadConn, due int64) {
	id := g.nextID
	g.nextID += 2
	*g.at(id) = call{due: due, open: true}
	block := g.later
	if id == 1 {
		block = g.first
	}
	c.out = appendFrame(c.out, frameHeaders, flagEndHeaders, id, block)
	vary(c.out[len(c.out)-requestBack:], c.g.serial)
	vary(c.out[len(c.out)-traceBack:], c.g.serial)
	c.out = appendFrame(c.out, frameData, flagEnd, id, g.message)
}

func (g *grpcCodec) responses(c *loadConn, b []byte) ([]byte, error) {
	for {
		f, rest, ok := nextFrame(b)
		if !ok {
			return rest, nil
		}
		b = rest
		if err := g.frame(c, f); err != nil {
			return nil, err
		}
	}
}

func (g *grpcCodec) frame(c *loadConn, f frame) error {
	switch f.kind {
	case frameData, frameHeaders:
		return g.answer(c, f)
	case frameReset:
		return fmt.Errorf("a call was reset: code %d", binary.BigEndian.Uint32(f.payload))
	case frameGoAway:
		return fmt.Errorf("GOAWAY: %q", f.payload)
	case frameSettings:
		return settings(c, f)
	case framePing:
		if f.flags&flagAck == 0 {
			c.out = appendFrame(c.out, framePing, flagAck, 0, f.payload)
		}
	}
	return nil
}

// answer takes a part of a response. It ends with trailers, after the whole message.
func (g *grpcCodec) answer(c *loadConn, f frame) error {
	x := g.at(f.id)
	if !x.open {
		return fmt.Errorf("an answer on stream %d, which is not open", f.id)
	}
	if f.kind == frameData {
		x.got += len(f.payload)
		if g.received += len(f.payload); g.received > 4<<20 {
			c.out = window(c.out, g.received)
			g.received = 0
		}
	}
	if f.flags&flagEnd == 0 {
		return nil
	}
	if f.kind != frameHeaders || x.got != g.body+5 {
		return fmt.Errorf("a call ended after %d bytes with a frame of type %d", x.got, f.kind)
	}
	x.open = false
	c.done(x.due)
	return nil
}

func settings(c *loadConn, f frame) error {
	if f.flags&flagAck != 0 {
		return nil
	}
	for p := f.payload; len(p) >= 6; p = p[6:] {
		if binary.BigEndian.Uint16(p) == 1 && binary.BigEndian.Uint32(p[2:]) < 4096 {
			return errors.New("the peer's HPACK table is smaller than the default, which this generator does not know")
		}
	}
	c.out = appendFrame(c.out, frameSettings, flagAck, 0, nil)
	return nil
}
