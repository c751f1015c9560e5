package h2

import "errors"

// ErrCode is an HTTP/2 error code (RFC 9113, section 7).
type ErrCode uint32

// The error codes of RFC 9113, section 7.
const (
	ErrCodeNo                 ErrCode = 0x0
	ErrCodeProtocol           ErrCode = 0x1
	ErrCodeInternal           ErrCode = 0x2
	ErrCodeFlowControl        ErrCode = 0x3
	ErrCodeSettingsTimeout    ErrCode = 0x4
	ErrCodeStreamClosed       ErrCode = 0x5
	ErrCodeFrameSize          ErrCode = 0x6
	ErrCodeRefusedStream      ErrCode = 0x7
	ErrCodeCancel             ErrCode = 0x8
	ErrCodeCompression        ErrCode = 0x9
	ErrCodeConnect            ErrCode = 0xa
	ErrCodeEnhanceYourCalm    ErrCode = 0xb
	ErrCodeInadequateSecurity ErrCode = 0xc
	ErrCodeHTTP11Required     ErrCode = 0xd
)

// String returns the name that RFC 9113 gives the code.
func (e ErrCode) String() string {
	if int(e) < len(codeNames) {
		return codeNames[e]
	}
	return "unknown error code"
}

var codeNames = [...]string{
	"NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT",
	"STREAM_CLOSED", "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR",
	"CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
}

// ConnError ends a connection (RFC 9113, section 5.4.1): what the peer did.
type ConnError struct {
	Code   ErrCode
	Reason string // constant
}

// Error implements error.
func (e *ConnError) Error() string { return e.Code.String() + ": " + e.Reason }

// Errors of Open. After one of them nothing was written.
var (
	// ErrNoCapacity says that the peer's stream limit or the stream ids are used
	// up, or that the connection is going away.
	ErrNoCapacity = errors.New("no stream left on the connection")
	// ErrHeadTooLarge says that the peer announced to refuse heads of that size
	// (SETTINGS_MAX_HEADER_LIST_SIZE).
	ErrHeadTooLarge = errors.New("head exceeds what the peer accepts")
	// ErrNoExtendedConnect says that the head needs RFC 8441 and the peer does
	// not offer it.
	ErrNoExtendedConnect = errors.New("peer does not offer extended CONNECT")
)
