package hpack

import (
	"encoding/binary"
	"math/bits"
)

// The code of RFC 7541, appendix B is canonical: symbols in the order of (length
// of code, symbol) have consecutive codes. So the lengths say everything. EOS,
// symbol 256, is the last code of 30 bits.
var codeLen = [256]uint8{
	13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
	28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
	6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
	5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
	13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
	7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
	15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
	6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
	20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
	24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
	22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
	21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
	26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
	19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
	20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
	26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
}

const (
	maxCode  = 30 // bits of the longest code
	fastBits = 11 // codes of up to so many bits are decoded by one lookup
	eos      = 256
)

// huffman is the code, made for encoding (codes) and decoding: fast maps the
// next fastBits bits to symbol<<4 | length; longer codes are found by first
// (the first code of a length), count and sorted.
type huffman struct {
	codes  [256]uint32
	fast   [1 << fastBits]uint16
	first  [maxCode + 1]uint32
	count  [maxCode + 1]uint32
	index  [maxCode + 1]uint32 // of a length's first symbol in sorted
	sorted [257]uint16
}

var code = makeHuffman()

func makeHuffman() *huffman {
	h := &huffman{}
	next, k := uint32(0), uint32(0)
	for l := uint8(1); l <= maxCode; l++ {
		next <<= 1
		h.first[l], h.index[l] = next, k
		for sym := range 257 {
			if sym == eos && l == maxCode || sym < eos && codeLen[sym] == l {
				h.assign(sym, l, next)
				h.sorted[k] = uint16(sym)
				next++
				k++
			}
		}
		h.count[l] = k - h.index[l]
	}
	return h
}

func (h *huffman) assign(sym int, l uint8, c uint32) {
	if sym == eos {
		return
	}
	h.codes[sym] = c
	if l > fastBits {
		return
	}
	for i := range uint32(1) << (fastBits - l) {
		h.fast[c<<(fastBits-l)|i] = uint16(sym)<<4 | uint16(l)
	}
}

// symbol decodes the code at the top of acc; l is its length in bits.
func (h *huffman) symbol(acc uint64) (sym uint16, l int) {
	if e := h.fast[acc>>(64-fastBits)]; e != 0 {
		return e >> 4, int(e & 15)
	}
	for l = fastBits + 1; l < maxCode; l++ {
		if d := uint32(acc>>(64-l)) - h.first[l]; d < h.count[l] {
			return h.sorted[h.index[l]+d], l
		}
	}
	return h.sorted[h.index[maxCode]+uint32(acc>>(64-maxCode))-h.first[maxCode]], maxCode
}

// appendDecoded appends the string that src encodes; ok is false when src holds
// EOS or does not end in up to seven bits of its prefix (RFC 7541, section 5.2).
func appendDecoded(dst, src []byte) (_ []byte, ok bool) {
	var acc uint64 // bits not decoded yet, from the top
	n := 0         // how many
	for {
		if n < maxCode {
			acc, n, src = refill(acc, n, src)
			if n < maxCode {
				return appendTail(dst, acc, n)
			}
		}
		sym, l := code.symbol(acc)
		if sym == eos {
			return dst, false
		}
		dst = append(dst, byte(sym))
		acc <<= l
		n -= l
	}
}

func refill(acc uint64, n int, src []byte) (uint64, int, []byte) {
	if len(src) >= 4 {
		acc |= uint64(binary.BigEndian.Uint32(src)) << (32 - n)
		return acc, n + 32, src[4:]
	}
	for _, b := range src {
		acc |= uint64(b) << (56 - n)
		n += 8
	}
	return acc, n, nil
}

// appendTail decodes the last n bits, n < maxCode.
func appendTail(dst []byte, acc uint64, n int) ([]byte, bool) {
	acc |= ^uint64(0) >> n
	for {
		sym, l := code.symbol(acc)
		if l > n {
			return dst, n < 8 && bits.LeadingZeros64(^acc) >= n
		}
		dst = append(dst, byte(sym))
		acc = acc<<l | (1<<l - 1)
		n -= l
	}
}

// encodedLen is the length of s in Huffman code, in bytes.
func encodedLen(s []byte) int {
	n := 0
	for _, c := range s {
		n += int(codeLen[c])
	}
	return (n + 7) / 8
}

// appendEncoded appends s in Huffman code.
func appendEncoded(dst, s []byte) []byte {
	var acc uint64 // the low n bits are not written yet
	n := uint(0)
	for _, c := range s {
		l := uint(codeLen[c])
		acc = acc<<l | uint64(code.codes[c])
		n += l
		if n >= 32 {
			n -= 32
			dst = binary.BigEndian.AppendUint32(dst, uint32(acc>>n))
		}
	}
	for ; n >= 8; n -= 8 {
		dst = append(dst, byte(acc>>(n-8)))
	}
	if n > 0 {
		dst = append(dst, byte(acc<<(8-n))|byte(0xff>>n))
	}
	return dst
}
