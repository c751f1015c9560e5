package oracle

import "encoding/binary"

// Key names a stream of bytes: one direction of one request.
type Key uint32

// RequestKey and ResponseKey name the two directions of a request.
func RequestKey(id ID) Key { return Key(id) << 1 }

// ResponseKey names the bytes that come back.
func ResponseKey(id ID) Key { return Key(id)<<1 | 1 }

// word is what stands at bytes 8i to 8i+7 of a stream. It is a bijection, so
// that origin can tell where a word was taken from.
func word(k Key, i int64) uint64 { return mix(uint64(k)<<32 | uint64(uint32(i))) }

// Fill writes the bytes of stream k from position off into p.
func Fill(p []byte, k Key, off int64) {
	var b [8]byte
	for len(p) > 0 {
		binary.BigEndian.PutUint64(b[:], word(k, off/8))
		n := copy(p, b[off%8:])
		p, off = p[n:], off+int64(n)
	}
}

// Match returns the index of the first byte of p that is not what stream k has
// from position off, -1 when all are.
func Match(p []byte, k Key, off int64) int {
	var b [8]byte
	for done := 0; done < len(p); {
		w := word(k, off/8)
		rest := p[done:]
		if off%8 == 0 && len(rest) >= 8 && binary.BigEndian.Uint64(rest) == w {
			done, off = done+8, off+8
			continue
		}
		binary.BigEndian.PutUint64(b[:], w)
		for i := off % 8; i < 8 && done < len(p); i++ {
			if p[done] != b[i] {
				return done
			}
			done, off = done+1, off+1
		}
	}
	return -1
}

// Find tells from which stream, and which position of it, p was taken: two
// words in a row that agree. Only streams of requests up to last are considered.
func Find(p []byte, last ID) (k Key, off int64, ok bool) {
	for shift := 0; shift < 8 && shift+16 <= len(p); shift++ {
		v := unmix(binary.BigEndian.Uint64(p[shift:]))
		k, i := Key(v>>32), int64(uint32(v))
		if k>>1 <= Key(last) && binary.BigEndian.Uint64(p[shift+8:]) == word(k, i+1) {
			return k, i*8 - int64(shift), true
		}
	}
	return 0, 0, false
}

// mix is the finaliser of SplitMix64, unmix its inverse.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15 // so that zero is not its own image
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func unmix(x uint64) uint64 {
	x = (x ^ x>>31 ^ x>>62) * 0x319642b2d24d8ec3
	x = (x ^ x>>27 ^ x>>54) * 0x96de1b173f119089
	return (x ^ x>>30 ^ x>>60) - 0x9e3779b97f4a7c15
}
