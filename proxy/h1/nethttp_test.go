package h1

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/tulle-mesh/tulle/proxy/head"
)

// message is what two readers must agree on.
type message struct {
	line, host string
	close      bool
	body       string
	trailers   string
	used       int // bytes of input
}

// ours reads one message at the start of in; false when it is refused, or not
// all there. noBody: the answer to HEAD.
func ours(in []byte, role Role, exp Expect) (m message, h head.Head, ok bool) {
	p := NewParser(role, Limits{}, nil)
	p.NextMessage(exp)
	p.Feed(in)
	for {
		ev, more := p.Next()
		if !more {
			if ev, more = p.EOF(); !more {
				return m, h, false
			}
		}
		switch ev.Kind {
		case EventHead, EventInfo, EventTunnel:
			m.line, m.host = startLine(ev.Head)
			m.close = ev.Head.Close
			ev.Head.CopyTo(&h, nil)
			if ev.Kind != EventHead {
				m.used = len(in) - len(p.Rest())
				return m, h, true
			}
		case EventData:
			m.body += string(ev.Data)
		case EventTrailers:
			m.trailers = fieldList(ev.Head.Fields)
		case EventEnd:
			m.used = len(in) - len(p.Rest())
			return m, h, true
		case EventError:
			return m, h, false
		}
	}
}

func startLine(h *head.Head) (line, host string) {
	version := map[uint8]string{10: "HTTP/1.0", 11: "HTTP/1.1"}[h.Version]
	if h.Status != 0 {
		return fmt.Sprintf("%s %d %q", version, h.Status, h.Reason), ""
	}
	return fmt.Sprintf("%s %s %s", h.Method, h.Target, version), string(h.Authority)
}

// fieldList is fields by name in canonical case, in order within a name.
func fieldList(f []head.Field) string {
	var names []string
	m := http.Header{}
	for _, f := range f {
		n := http.CanonicalHeaderKey(string(f.Name))
		if m[n] == nil {
			names = append(names, n)
		}
		m[n] = append(m[n], string(f.Value))
	}
	return headerList(names, m)
}

func headerList(names []string, m http.Header) string {
	slices.Sort(names)
	var b strings.Builder
	for _, n := range names {
		fmt.Fprintf(&b, "%s: %q\n", n, m[n])
	}
	return b.String()
}

// counted knows how much of its input a bufio.Reader has given out.
type counted struct {
	all []byte
	src bytes.Reader
	r   *bufio.Reader
}

func count(in []byte) *counted {
	c := &counted{all: in}
	c.src.Reset(in)
	c.r = bufio.NewReaderSize(&c.src, 256<<10)
	return c
}

func (c *counted) used() int { return len(c.all) - c.src.Len() - c.r.Buffered() }

// theirs reads one request with net/http.
func theirs(in []byte) (m message, header http.Header, err error) {
	c := count(in)
	r, err := http.ReadRequest(c.r)
	if err != nil {
		return m, nil, err
	}
	m.line, m.host, m.close = fmt.Sprintf("%s %s %s", r.Method, r.RequestURI, r.Proto), r.Host, r.Close
	body, err := io.ReadAll(r.Body)
	m.body, m.used = string(body), c.used()
	m.trailers = trailerList(r.Trailer)
	return m, r.Header, err
}

// theirResponse reads one response with net/http.
func theirResponse(in []byte, exp Expect) (m message, err error) {
	c := count(in)
	req := &http.Request{Method: http.MethodGet}
	if exp.Head {
		req.Method = http.MethodHead
	}
	r, err := http.ReadResponse(c.r, req)
	if err != nil {
		return m, err
	}
	status, reason, _ := strings.Cut(r.Status, " ")
	m.line, m.close = fmt.Sprintf("%s %s %q", r.Proto, status, reason), r.Close
	body, err := io.ReadAll(r.Body)
	m.body, m.used = string(body), c.used()
	m.trailers = trailerList(r.Trailer)
	return m, err
}

func trailerList(h http.Header) string {
	var names []string
	for n, v := range h {
		if len(v) > 0 && !reserved([]byte(n)) { // else announced, but not sent; or dropped by us
			names = append(names, n)
		}
	}
	return headerList(names, h)
}

// stricter are errors of net/http about messages that we accept. None of them
// means that it would read another message. Other known differences: its
// trailers hold reserved names, which are dropped here (R5.5), it skips an empty
// line only in its server, and it trims the reason phrase.
var stricter = []string{
	// It knows no coding but chunked; we pass on gzip, deflate and compress before it.
	"unsupported transfer encoding",
	// It decodes the target, "%zz" as well; we pass it on as received (R3.1).
	"invalid URL escape",
	// It refuses white space before a chunk extension, which RFC 9112, section 7.1.1 has a recipient pass over.
	"invalid byte in chunk length",
}

func isStricter(err error) bool {
	return slices.ContainsFunc(stricter, func(s string) bool { return strings.Contains(err.Error(), s) })
}

// sameRequest checks that net/http reads in as we do, if we accept it.
func sameRequest(t *testing.T, in []byte) {
	t.Helper()
	m, h, ok := ours(in, Server, Expect{})
	if !ok {
		return
	}
	in, skipped := bytes.CutPrefix(in, []byte("\r\n")) // net/http's server does that itself
	if skipped {
		m.used -= 2
	}
	want, header, err := theirs(in)
	if err != nil {
		if !isStricter(err) {
			t.Errorf("we accept what net/http refuses, %v:\n%q", err, in)
		}
		return
	}
	if m != want {
		t.Errorf("read\n%+v, net/http\n%+v:\n%q", m, want, in)
	}
	for i := range h.Fields {
		f := &h.Fields[i]
		n := http.CanonicalHeaderKey(string(f.Name))
		switch n {
		case "Host", "Transfer-Encoding", "Trailer", "Te", "Content-Length", "Upgrade":
			continue // taken out or shortened, by it or by us; what they say is compared above
		}
		if !slices.Contains(header[n], string(f.Value)) {
			t.Errorf("field %s: %q, net/http has %q:\n%q", f.Name, f.Value, header[n], in)
		}
	}
}

// sameResponse checks that net/http reads in as we do, if we accept it.
func sameResponse(t *testing.T, in []byte, exp Expect) {
	t.Helper()
	exp.Connect, exp.Upgrade = false, false
	m, h, ok := ours(in, Client, exp)
	if !ok {
		return
	}
	want, err := theirResponse(in, exp)
	if err != nil {
		if !isStricter(err) {
			t.Errorf("we accept what net/http refuses, %v:\n%q", err, in)
		}
		return
	}
	m.line, want.line = trimReason(m.line), trimReason(want.line)
	if h.Status < 200 {
		want.body = ""
	}
	if m != want {
		t.Errorf("read\n%+v, net/http\n%+v:\n%q", m, want, in)
	}
}

func trimReason(line string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(line), " "), ` "`, `"`)
}

func TestNetHTTPReadsWhatWeAccept(t *testing.T) {
	for _, c := range acceptedRequests {
		sameRequest(t, []byte(c.in))
	}
	for _, r := range refusedRequests {
		sameRequest(t, []byte(r.in))
	}
	sameRequest(t, []byte(typicalRequest))
	for _, c := range acceptedResponses {
		for _, e := range append(c.exp, Expect{}) {
			sameResponse(t, []byte(c.in), e)
		}
	}
	for _, r := range refusedResponses {
		sameResponse(t, []byte(r.in), Expect{})
	}
	sameResponse(t, []byte(typicalResponse), Expect{})
	sameResponse(t, []byte(chunkedResponse), Expect{})
}
