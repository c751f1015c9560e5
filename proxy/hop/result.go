package hop

import "encoding/binary"

// Results of rule R5.4: the inbound proxy's first bytes on ALPNTCP.
const (
	resultOK      = 0
	resultRefused = 1
	// MaxReason bounds the reason of a refusal in bytes.
	MaxReason    = 1024
	resultHeader = 3
)

// AppendResult appends the result of connecting to the application: an empty
// reason is success. A longer reason than MaxReason is cut.
func AppendResult(dst []byte, reason string) []byte {
	if reason == "" {
		return append(dst, resultOK)
	}
	reason = reason[:min(len(reason), MaxReason)]
	dst = append(dst, resultRefused)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(reason)))
	return append(dst, reason...)
}

// ParseResult reads a result from the first bytes of a connection. While more
// is set it is not all there. ok means that the application is connected and
// its bytes begin at b[n:]; else reason says why not, in printable ASCII, and
// the connection has no further use. An unknown result is such a reason too.
func ParseResult(b []byte) (reason string, n int, ok, more bool) {
	switch {
	case len(b) == 0:
		return "", 0, false, true
	case b[0] == resultOK:
		return "", 1, true, false
	case b[0] != resultRefused:
		return "peer proxy sent an unknown result", 0, false, false
	case len(b) < resultHeader:
		return "", 0, false, true
	}
	size := int(binary.BigEndian.Uint16(b[1:]))
	switch {
	case size == 0 || size > MaxReason:
		return "peer proxy sent a malformed result", 0, false, false
	case len(b) < resultHeader+size:
		return "", 0, false, true
	}
	return printable(b[resultHeader : resultHeader+size]), resultHeader + size, false, false
}

// printable makes a peer's bytes fit for a field value and a log.
func printable(b []byte) string {
	p := make([]byte, len(b))
	for i, c := range b {
		if c < ' ' || c > '~' {
			c = '?'
		}
		p[i] = c
	}
	return string(p)
}
