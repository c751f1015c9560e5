package exchange

// startTunnel turns the connection into a tunnel of bytes after 101 or a 2xx to
// CONNECT (rule R3.3), early bytes included.
func (s *h1Server) startTunnel() {
	s.tunnel = true
	s.reqDone, s.respDone = false, false
	early := s.prsr.Rest()
	if len(early) > 0 {
		s.tunnelled(early, false)
	}
	if !s.looping {
		s.prsr.Close()
	}
	if s.gone {
		return
	}
	s.c.Resume()
	if s.eof {
		s.tunnelled(nil, true)
	}
}

// tunnelled takes bytes, or the end, of the client's half.
func (s *h1Server) tunnelled(p []byte, end bool) {
	if s.x == nil {
		return
	}
	s.unconsumed += len(p)
	if end {
		s.reqDone = true
	}
	s.x.RequestData(p, end)
	if s.gone {
		return
	}
	if s.unconsumed > s.c.High() {
		s.c.Pause()
	}
	s.tunnelEnd()
}

// tunnelEnd closes the connection when both halves have ended.
func (s *h1Server) tunnelEnd() {
	if s.reqDone && s.respDone && !s.gone {
		s.x = nil // it ends by itself: a reset here would overtake what still leaves upstream
		s.close(false)
	}
}
