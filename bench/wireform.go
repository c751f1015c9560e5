//go:build linux

package main

import (
	"encoding/binary"
	"strconv"
)

// What travels: requests as a browser behind a gateway sends them, gRPC calls as grpc-go does.

const requestHead = "GET /api/v1/items/42?expand=owner HTTP/1.1\r\n" +
	"Host: web.bench:8080\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64) bench/1.0\r\n" +
	"Accept: application/json, text/plain, */*\r\n" +
	"Accept-Encoding: gzip, deflate, br\r\n" +
	"Accept-Language: en-US,en;q=0.9\r\n" +
	"X-Request-Id: 5f2b6c0e9d3a4f1b8c7e6d5a4b3c2d1e\r\n" +
	"Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n" +
	"Authorization: Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.abcdefghijklmnop\r\n\r\n"

// tcpMessage is the size of a message of the byte protocol, either way.
const tcpMessage = 256

// callMessage is the size of a gRPC request's message.
const callMessage = 64

func responseBytes(body int) []byte {
	h := "HTTP/1.1 200 OK\r\nServer: origin\r\nDate: Thu, 20 Nov 2026 10:00:00 GMT\r\nContent-Type: application/json\r\n" +
		"Content-Length: " + strconv.Itoa(body) + "\r\nCache-Control: no-store\r\nX-Served-By: web-7d9f\r\n\r\n"
	return append([]byte(h), payload(body)...)
}

func payload(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'a' + byte(i%26)
	}
	return b
}

// vary writes digits that differ from call to call into an id.
func vary(id []byte, n uint64) {
	const hex = "0123456789abcdef"
	x := n * 0x9e3779b97f4a7c15
	for i := range 16 {
		id[i] = hex[x>>(4*i)&15]
	}
}

// field is a header field of HTTP/2.
type field struct{ name, value string }

// HPACK's ways to write one (RFC 7541, section 6.2).
const (
	remembered = 0x40 // literal with incremental indexing
	passing    = 0x00 // literal without indexing
	firstEntry = 62   // the newest one of the dynamic table
)

func appendField(dst []byte, kind byte, f field) []byte {
	dst = append(dst, kind)
	for _, s := range []string{f.name, f.value} {
		if len(s) < 127 {
			dst = append(dst, byte(len(s)))
		} else { // up to 254 suffices here
			dst = append(dst, 127, byte(len(s)-127))
		}
		dst = append(dst, s...)
	}
	return dst
}

// blocks are a header block's first form, which fills the dynamic table, and its later one, which
// refers to it; fields that vary are written in full, as encoders do.
func blocks(static []byte, fixed, varying []field) (first, later []byte) {
	first, later = append(first, static...), append(later, static...)
	for i, f := range fixed {
		first = appendField(first, remembered, f)
		later = append(later, 0x80|byte(firstEntry+len(fixed)-1-i))
	}
	for _, f := range varying {
		first, later = appendField(first, passing, f), appendField(later, passing, f)
	}
	return first, later
}

// Frame types, flags and settings of RFC 9113.
const (
	frameData         = 0
	frameHeaders      = 1
	frameReset        = 3
	frameSettings     = 4
	framePing         = 6
	frameGoAway       = 7
	frameWindowUpdate = 8

	flagEnd        = 1
	flagAck        = 1
	flagEndHeaders = 4

	frameHead = 9
	preface   = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
)

func appendFrame(dst []byte, kind, flags byte, id uint32, p []byte) []byte {
	n := len(p)
	dst = append(dst, byte(n>>16), byte(n>>8), byte(n), kind, flags)
	return append(binary.BigEndian.AppendUint32(dst, id), p...)
}

// window returns credit for the connection.
func window(dst []byte, n int) []byte {
	return appendFrame(dst, frameWindowUpdate, 0, 0, binary.BigEndian.AppendUint32(nil, uint32(n)))
}

// frame is one frame of input.
type frame struct {
	kind, flags byte
	id          uint32
	payload     []byte
}

func nextFrame(b []byte) (f frame, rest []byte, ok bool) {
	if len(b) < frameHead {
		return frame{}, b, false
	}
	n := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
	if len(b) < frameHead+n {
		return frame{}, b, false
	}
	return frame{b[3], b[4], binary.BigEndian.Uint32(b[5:]) & (1<<31 - 1), b[frameHead : frameHead+n]}, b[frameHead+n:], true
}
