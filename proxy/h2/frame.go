package h2

import "encoding/binary"

// preface is what a client sends first (RFC 9113, section 3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

const (
	initialWindow  = 65535
	maxWindow      = 1<<31 - 1
	minFrameSize   = 16384
	maxStreamID    = 1<<31 - 1
	frameHeaderLen = 9
)

type frameType uint8

// Frame types (RFC 9113, section 6).
const (
	frameData frameType = iota
	frameHeaders
	framePriority
	frameRSTStream
	frameSettings
	framePushPromise
	framePing
	frameGoAway
	frameWindowUpdate
	frameContinuation
)

// Flags.
const (
	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

type settingID uint16

// Settings (RFC 9113, section 6.5.2; RFC 8441, section 3).
const (
	settingTableSize       settingID = 0x1
	settingEnablePush      settingID = 0x2
	settingMaxStreams      settingID = 0x3
	settingInitialWindow   settingID = 0x4
	settingMaxFrameSize    settingID = 0x5
	settingMaxHeaderList   settingID = 0x6
	settingExtendedConnect settingID = 0x8
)

// frameHeader is a frame's header (RFC 9113, section 4.1).
type frameHeader struct {
	length int
	id     uint32
	typ    frameType
	flags  uint8
}

func parseFrameHeader(b []byte) frameHeader {
	return frameHeader{
		length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]),
		typ:    frameType(b[3]),
		flags:  b[4],
		id:     binary.BigEndian.Uint32(b[5:]) & maxStreamID,
	}
}

func (h frameHeader) has(flag uint8) bool { return h.flags&flag != 0 }

func appendFrameHeader(dst []byte, h frameHeader) []byte {
	dst = append(dst, byte(h.length>>16), byte(h.length>>8), byte(h.length), byte(h.typ), h.flags)
	return binary.BigEndian.AppendUint32(dst, h.id)
}

func appendSetting(dst []byte, id settingID, v uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(dst, uint16(id)), v)
}

func appendRST(dst []byte, id uint32, code ErrCode) []byte {
	dst = appendFrameHeader(dst, frameHeader{length: 4, typ: frameRSTStream, id: id})
	return binary.BigEndian.AppendUint32(dst, uint32(code))
}

func appendWindowUpdate(dst []byte, id, n uint32) []byte {
	dst = appendFrameHeader(dst, frameHeader{length: 4, typ: frameWindowUpdate, id: id})
	return binary.BigEndian.AppendUint32(dst, n)
}

func appendGoAway(dst []byte, last uint32, code ErrCode, reason string) []byte {
	dst = appendFrameHeader(dst, frameHeader{length: 8 + len(reason), typ: frameGoAway})
	dst = binary.BigEndian.AppendUint32(dst, last)
	dst = binary.BigEndian.AppendUint32(dst, uint32(code))
	return append(dst, reason...)
}
