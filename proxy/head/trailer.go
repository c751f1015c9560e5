package head

// NeverTrailer reports the names, in any case, of fields that frame or route a message, or say who sent
// it: they are no trailers (RFC 9110, section 6.5.1), and whoever merged them into the head would be misled.
func NeverTrailer(name []byte) bool {
	for _, n := range [...]string{
		"transfer-encoding", "content-length", "host", "connection", "te", "trailer", "upgrade",
		"http2-settings", "keep-alive", "proxy-connection", "content-encoding", "authorization",
		"proxy-authorization", "cookie", "set-cookie",
	} {
		if EqualFold(name, n) {
			return true
		}
	}
	return false
}
