package h1

import (
	"strconv"

	"github.com/tulle-mesh/tulle/proxy/head"
)

// ConnField is the Connection field of this hop.
type ConnField uint8

// Connection fields.
const (
	ConnNone ConnField = iota
	ConnClose
	ConnKeepAlive
	ConnUpgrade
)

const crlf = "\r\n"

// AppendRequest appends a request head: its line and fields as they came, then
// the Connection field and extra. A head from HTTP/2 becomes HTTP/1.1 with Host
// first.
func AppendRequest(dst []byte, h *head.Head, c ConnField, extra []head.Field) []byte {
	dst = append(dst, h.Method...)
	dst = append(dst, ' ')
	if h.Version >= 20 && h.IsConnect() {
		dst = append(dst, h.Authority...)
	} else {
		dst = append(dst, h.Target...)
	}
	if h.Version == 10 {
		dst = append(dst, " HTTP/1.0\r\n"...)
	} else {
		dst = append(dst, " HTTP/1.1\r\n"...)
	}
	if h.Version >= 20 {
		dst = append(dst, "host: "...)
		dst = append(dst, h.Authority...)
		dst = append(dst, crlf...)
	}
	return appendFields(dst, h.Fields, c, extra)
}

// AppendResponse appends a response head likewise; one from HTTP/2 gets the usual
// reason phrase.
func AppendResponse(dst []byte, h *head.Head, c ConnField, extra []head.Field) []byte {
	if h.Version == 10 {
		dst = append(dst, "HTTP/1.0 "...)
	} else {
		dst = append(dst, "HTTP/1.1 "...)
	}
	dst = strconv.AppendInt(dst, int64(h.Status), 10)
	dst = append(dst, ' ')
	if h.Version >= 20 { // it had none to say
		dst = append(dst, head.UsualReason(h.Status)...)
	} else {
		dst = append(dst, h.Reason...)
	}
	dst = append(dst, crlf...)
	return appendFields(dst, h.Fields, c, extra)
}

func appendFields(dst []byte, f []head.Field, c ConnField, extra []head.Field) []byte {
	for i := range f {
		dst = appendField(dst, &f[i])
	}
	switch c {
	case ConnNone:
	case ConnClose:
		dst = append(dst, "Connection: close\r\n"...)
	case ConnKeepAlive:
		dst = append(dst, "Connection: keep-alive\r\n"...)
	case ConnUpgrade:
		dst = append(dst, "Connection: Upgrade\r\n"...)
	}
	for i := range extra {
		dst = appendField(dst, &extra[i])
	}
	return append(dst, crlf...)
}

func appendField(dst []byte, f *head.Field) []byte {
	dst = append(dst, f.Name...)
	dst = append(dst, ':', ' ')
	dst = append(dst, f.Value...)
	return append(dst, crlf...)
}

// AppendChunk appends data as one chunk; nothing when there is no data, since an
// empty chunk would end the body.
func AppendChunk(dst, data []byte) []byte {
	if len(data) == 0 {
		return dst
	}
	dst = strconv.AppendInt(dst, int64(len(data)), 16)
	dst = append(dst, crlf...)
	dst = append(dst, data...)
	return append(dst, crlf...)
}

// AppendLastChunk appends the end of a chunked body with its trailers, without
// those that may not be any (RFC 9110, section 6.5.1): HTTP/1 servers exist that
// merge what they find into the head (rule R4.6).
func AppendLastChunk(dst []byte, trailers []head.Field) []byte {
	dst = append(dst, "0\r\n"...)
	for i := range trailers {
		if !head.NeverTrailer(trailers[i].Name) {
			dst = appendField(dst, &trailers[i])
		}
	}
	return append(dst, crlf...)
}
