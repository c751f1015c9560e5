package h2

import (
	"github.com/tulle-mesh/tulle/proxy/head"
	"github.com/tulle-mesh/tulle/proxy/slab"
)

// Bounds of what Shared keeps.
const (
	keepStreams = 1024
	keepChunks  = 1024
	keepScratch = 64 << 10 // bytes
)

// Shared holds what the connections of one worker lend each other, so that an
// idle connection owns none of it: free streams, the nodes of their queues, and
// the memory in which heads are decoded. It is not safe for concurrent use; the
// zero value is ready.
type Shared struct {
	streams  *Stream
	nStreams int
	chunks   *chunk
	nChunks  int
	spaces   []*space
}

// space is where a connection decodes heads while it is iterated.
type space struct {
	head    head.Head
	scratch []byte
}

func (sh *Shared) stream() *Stream {
	s := sh.streams
	if s == nil {
		return &Stream{}
	}
	sh.streams = s.next
	sh.nStreams--
	s.next = nil
	s.closed = false
	return s
}

// freeStream takes a closed stream back. It stays marked closed, so that a late
// call does nothing until another stream uses the memory.
func (sh *Shared) freeStream(s *Stream) {
	*s = Stream{closed: true}
	if sh.nStreams < keepStreams {
		s.next = sh.streams
		sh.streams = s
		sh.nStreams++
	}
}

func (sh *Shared) space() *space {
	if n := len(sh.spaces); n > 0 {
		sp := sh.spaces[n-1]
		sh.spaces = sh.spaces[:n-1]
		return sp
	}
	return &space{}
}

func (sh *Shared) freeSpace(sp *space) {
	if cap(sp.scratch) > keepScratch {
		sp.scratch = nil
	}
	sh.spaces = append(sh.spaces, sp)
}

// chunk is a piece of a queue: b[off:] is not sent yet.
type chunk struct {
	b    []byte
	off  int
	next *chunk
}

const (
	minChunk = 512
	maxChunk = 16 << 10
)

// queue is a stream's body waiting for windows and room, in slab memory.
type queue struct {
	first, last *chunk
	n           int // bytes
}

func (q *queue) push(p []byte, pool *slab.Pool, sh *Shared) {
	for len(p) > 0 {
		if q.last == nil || len(q.last.b) == cap(q.last.b) {
			q.grow(max(len(p), q.n), pool, sh)
		}
		l := q.last
		k := min(len(p), cap(l.b)-len(l.b))
		l.b = append(l.b, p[:k]...)
		q.n += k
		p = p[k:]
	}
}

func (q *queue) grow(n int, pool *slab.Pool, sh *Shared) {
	k := sh.chunks
	if k == nil {
		k = &chunk{}
	} else {
		sh.chunks = k.next
		sh.nChunks--
	}
	*k = chunk{b: pool.Get(min(max(n, minChunk), maxChunk))}
	if q.last == nil {
		q.first = k
	} else {
		q.last.next = k
	}
	q.last = k
}

// pull moves n bytes, n <= q.n, to dst.
func (q *queue) pull(dst []byte, n int, pool *slab.Pool, sh *Shared) []byte {
	q.n -= n
	for n > 0 {
		f := q.first
		k := min(n, len(f.b)-f.off)
		dst = append(dst, f.b[f.off:f.off+k]...)
		f.off += k
		n -= k
		if f.off == len(f.b) {
			q.drop(pool, sh)
		}
	}
	return dst
}

// drop frees the first chunk.
func (q *queue) drop(pool *slab.Pool, sh *Shared) {
	f := q.first
	q.first = f.next
	if q.first == nil {
		q.last = nil
	}
	pool.Put(f.b)
	*f = chunk{}
	if sh.nChunks < keepChunks {
		f.next = sh.chunks
		sh.chunks = f
		sh.nChunks++
	}
}

func (q *queue) clear(pool *slab.Pool, sh *Shared) {
	for q.first != nil {
		q.drop(pool, sh)
	}
	q.n = 0
}
