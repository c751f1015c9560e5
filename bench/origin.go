//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// originOrders tell the origin what to serve, by listener.
type originOrders struct {
	Listeners []listenerOrders `json:"listeners"`
}

type listenerOrders struct {
	Addr  string `json:"addr"`
	Proto proto  `json:"proto"`
	Body  int    `json:"body"`
}

// server answers what is whole in b into s.out and returns the rest.
type server interface {
	serve(s *stream, b []byte) []byte
}

// origin answers requests with canned bytes until its input ends.
func origin(r io.Reader, w io.Writer) error {
	var orders originOrders
	if err := receive(r, &orders); err != nil {
		return err
	}
	dedicate()
	o := &originLoop{listeners: map[int]listenerOrders{}, served: map[int]*served{}, buf: make([]byte, 256<<10)}
	var err error
	if o.poll, err = newPoller(); err != nil {
		return err
	}
	for _, l := range orders.Listeners {
		fd, err := listen(l.Addr)
		if err != nil {
			return err
		}
		o.listeners[fd] = l
		if err := o.poll.add(fd); err != nil {
			return err
		}
	}
	fmt.Fprintln(w, "listening")
	for {
		o.turn()
	}
}

type served struct {
	stream

	server server
}

type originLoop struct {
	poll      *poller
	listeners map[int]listenerOrders
	served    map[int]*served
	buf       []byte
}

func (o *originLoop) turn() {
	ready := o.poll.wait(0)
	if len(ready) == 0 {
		ready = o.poll.wait(-1)
	}
	for i := range ready {
		fd := int(ready[i].Fd)
		if l, ok := o.listeners[fd]; ok {
			o.accept(fd, l)
			continue
		}
		if c := o.served[fd]; c != nil {
			o.handle(c, ready[i].Events)
		}
	}
}

func (o *originLoop) accept(fd int, l listenerOrders) {
	for {
		c, _, err := unix.Accept4(fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		_ = unix.SetsockoptInt(c, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		o.served[c] = &served{stream: stream{fd: c, poll: o.poll}, server: newServer(l)}
		if o.poll.add(c) != nil {
			unix.Close(c)
		}
	}
}

func (o *originLoop) handle(c *served, events uint32) {
	if events&unix.EPOLLOUT != 0 {
		c.flush()
	}
	if events&^unix.EPOLLOUT != 0 {
		if b := c.read(o.buf); c.failed == nil {
			c.keep(c.server.serve(&c.stream, b))
			c.flush()
		}
	}
	if c.failed != nil {
		unix.Close(c.fd)
		delete(o.served, c.fd)
	}
}

func newServer(l listenerOrders) server {
	switch l.Proto {
	case protoHTTP1:
		return &http1Server{response: responseBytes(l.Body)}
	case protoGRPC:
		return newGRPCServer(l.Body)
	case protoTCP:
		return echoServer{}
	}
	panic("BUG: a protocol without an origin: " + l.Proto)
}

type http1Server struct{ response []byte }

var headEnd = []byte("\r\n\r\n")

// serve knows requests without a body alone.
func (h *http1Server) serve(s *stream, b []byte) []byte {
	for {
		n := bytes.Index(b, headEnd)
		if n < 0 {
			return b
		}
		b = b[n+len(headEnd):]
		s.out = append(s.out, h.response...)
	}
}

// echoServer answers each message with itself.
type echoServer struct{}

func (echoServer) serve(s *stream, b []byte) []byte {
	n := len(b) / tcpMessage * tcpMessage
	s.out = append(s.out, b[:n]...)
	return b[n:]
}

// grpcServer answers each call with a head, one message and trailers.
type grpcServer struct {
	begun    bool
	message  []byte
	window   int // what the peer's connection takes
	waiting  []uint32
	received int
	first    bool
}

func newGRPCServer(body int) *grpcServer {
	m := binary.BigEndian.AppendUint32([]byte{0}, uint32(body))
	return &grpcServer{message: append(m, payload(body)...), window: 65535, first: true}
}

const connCredit = 512 << 10

func (g *grpcServer) serve(s *stream, b []byte) []byte {
	if !g.begun {
		if len(b) < len(preface) {
			return b
		}
		b = b[len(preface):]
		g.begun = true
		s.out = appendFrame(s.out, frameSettings, 0, 0, []byte{0, 3, 0, 0, 4, 0, 0, 4, 0, 0x10, 0, 0})
		s.out = window(s.out, 2*connCredit)
	}
	for {
		f, rest, ok := nextFrame(b)
		if !ok {
			return rest
		}
		b = rest
		g.frame(s, f)
	}
}

func (g *grpcServer) frame(s *stream, f frame) {
	switch f.kind {
	case frameHeaders, frameData:
		if f.kind == frameData {
			if g.received += len(f.payload); g.received >= connCredit {
				s.out = window(s.out, g.received)
				g.received = 0
			}
		}
		if f.flags&flagEnd != 0 {
			g.waiting = append(g.waiting, f.id)
		}
	case frameSettings, framePing:
		if f.flags&flagAck == 0 {
			ack := f.payload
			if f.kind == frameSettings {
				ack = nil
			}
			s.out = appendFrame(s.out, f.kind, flagAck, 0, ack)
		}
	case frameWindowUpdate:
		if f.id == 0 {
			g.window += int(binary.BigEndian.Uint32(f.payload))
		}
	}
	for len(g.waiting) > 0 && g.window >= len(g.message) {
		g.answer(s, g.waiting[0])
		g.waiting = g.waiting[:copy(g.waiting, g.waiting[1:])]
	}
}

// answer refers to the dynamic table, where content-type came first and grpc-status second.
func (g *grpcServer) answer(s *stream, id uint32) {
	g.window -= len(g.message)
	head, tail := []byte{0x88, 0x80 | firstEntry + 1}, []byte{0x80 | firstEntry}
	if g.first {
		head = appendField([]byte{0x88}, remembered, field{"content-type", "application/grpc"})
		tail = appendField(nil, remembered, field{"grpc-status", "0"})
		g.first = false
	}
	s.out = appendFrame(s.out, frameHeaders, flagEndHeaders, id, head)
	s.out = appendFrame(s.out, frameData, 0, id, g.message)
	s.out = appendFrame(s.out, frameHeaders, flagEndHeaders|flagEnd, id, tail)
}
