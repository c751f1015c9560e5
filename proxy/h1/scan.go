package h1

import "bytes"

// startLineSlack is what a start line has besides its target.
const startLineSlack = 64

// scan finds the end of a head, remembering how far it got, so that of a head
// that dribbles each byte is looked at once.
type scan struct {
	at       int  // up to here no end was found
	line     int  // where the line begins that at is in
	first    bool // the start line was seen
	skipped  bool // so was an empty one before it
	trailers bool // there is no start line
}

// find returns the length of the head at the start of b with its empty line, 0
// while it is not all there. Every line that it passes ends in CRLF.
func (s *scan) find(b []byte, lim *Limits) (int, *Error) {
	for {
		i := bytes.IndexByte(b[s.at:], '\n')
		if i < 0 {
			s.at = len(b)
			return 0, s.tooLong(len(b), lim)
		}
		end := s.at + i
		if err := s.tooLong(end+1, lim); err != nil {
			return 0, err
		}
		if end == s.line || b[end-1] != '\r' {
			return 0, bad("bare LF in a head")
		}
		s.at = end + 1
		if end-1 == s.line {
			if s.first || s.trailers {
				return end + 1, nil
			}
			return 0, bad("empty line where a message should begin")
		}
		s.first = true
		s.line = end + 1
	}
}

// tooLong checks the first n bytes. Its verdict on them does not depend on what
// came with them, so that the error is the same however they were cut.
func (s *scan) tooLong(n int, lim *Limits) *Error {
	switch {
	case !s.first && !s.trailers:
		if n > min(lim.TargetBytes+startLineSlack, lim.HeaderBytes) {
			return &Error{Status: 414, Reason: "start line too long"}
		}
	case n > lim.HeaderBytes:
		return &Error{Status: 431, Reason: "head too large"}
	}
	return nil
}
