package e2e

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"
	"golang.org/x/sys/unix"
)

// capture reads every frame on every device of both nodes but loopback, the bridge's ports among them:
// what pods send each other, on one node or across, passes by. It looks for markers as they are and as HPACK's
// Huffman code writes them, also where two segments share one.
type capture struct {
	t       *testing.T
	markers []marker
	taps    []*tap
	running sync.WaitGroup

	mu     sync.Mutex // guards below
	frames int
	seen   map[string][]sighting
}

type marker struct {
	text  string
	forms [][]byte
}

// sighting is one marker in one frame.
type sighting struct {
	node     string
	from, to netip.AddrPort
}

func (s sighting) String() string { return fmt.Sprintf("%s -> %s on %s", s.from, s.to, s.node) }

// tap is one node's socket.
type tap struct {
	node string
	file *os.File
	// tails are the ends of the flows' last segments, by device and direction; only the reader uses it.
	tails map[flow][]byte
}

type flow struct {
	device   int
	from, to netip.AddrPort
}

const tapBuffer = 64 << 20

// capture begins to read; close ends it, at the latest with the test. A marker is at least eight bytes.
func (e *env) capture(markers ...string) *capture {
	e.t.Helper()
	c := &capture{t: e.t, seen: map[string][]sighting{}}
	for _, m := range markers {
		c.markers = append(c.markers, newMarker(m))
	}
	for _, n := range e.Nodes() {
		tap := &tap{node: n.Name(), tails: map[flow][]byte{}}
		err := n.InNetwork(func() (err error) {
			tap.file, err = packetSocket()
			return err
		})
		if err != nil {
			e.t.Fatal(err)
		}
		c.taps = append(c.taps, tap)
		c.running.Go(func() { c.read(tap) })
	}
	e.t.Cleanup(func() { c.close() })
	return c
}

func newMarker(text string) marker {
	if len(text) < 8 {
		panic("BUG: a marker of " + fmt.Sprint(len(text)) + " bytes is met by chance")
	}
	huffman := hpack.AppendHuffmanString(nil, text)
	return marker{text, [][]byte{[]byte(text), huffman[:len(huffman)-1]}} // the last byte may be shared with what follows
}

// packetSocket sees all devices of the network namespace, in both directions.
func packetSocket() (*os.File, error) {
	const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // in network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, all)
	if err != nil {
		return nil, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, tapBuffer); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "packet socket"), nil
}

func (c *capture) read(t *tap) {
	raw, err := t.file.SyscallConn()
	if err != nil {
		c.t.Error(err)
		return
	}
	frame := make([]byte, 1<<17)
	more := func(fd uintptr) bool {
		for {
			n, from, err := unix.Recvfrom(int(fd), frame, unix.MSG_TRUNC)
			if err != nil {
				return false // nothing there: wait
			}
			if n > len(frame) {
				c.t.Errorf("a frame of %d bytes", n)
				n = len(frame)
			}
			a, ok := from.(*unix.SockaddrLinklayer)
			if !ok || a.Hatype == unix.ARPHRD_LOOPBACK { // there the kubelet tells containerd what kubectl exec runs
				continue
			}
			c.look(t, a.Ifindex, frame[:n])
		}
	}
	_ = raw.Read(more) // until the deadline
	// A deadline ends the waiting before what is there has been read.
	_ = raw.Control(func(fd uintptr) { more(fd) })
}

func (c *capture) look(t *tap, device int, frame []byte) {
	from, to, payload, ok := segment(frame)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.frames++
	if !ok || len(payload) == 0 {
		return
	}
	f := flow{device, from, to}
	both := append(t.tails[f], payload...)
	longest := 0
	for _, m := range c.markers {
		for _, form := range m.forms {
			longest = max(longest, len(form))
			if bytes.Contains(both, form) {
				c.seen[m.text] = append(c.seen[m.text], sighting{t.node, from, to})
				break
			}
		}
	}
	t.tails[f] = slices.Clone(both[max(0, len(both)-longest+1):])
}

// segment takes a frame apart down to what TCP or UDP carry.
func segment(frame []byte) (from, to netip.AddrPort, payload []byte, ok bool) {
	if len(frame) < 14 {
		return from, to, nil, false
	}
	var src, dst netip.Addr
	var protocol byte
	packet := frame[14:]
	switch kind := binary.BigEndian.Uint16(frame[12:]); {
	case kind == unix.ETH_P_IP && len(packet) >= 20:
		header, total := int(packet[0]&15)*4, int(binary.BigEndian.Uint16(packet[2:]))
		src, dst = netip.AddrFrom4([4]byte(packet[12:])), netip.AddrFrom4([4]byte(packet[16:]))
		protocol = packet[9]
		if total >= header && total <= len(packet) { // zero for what is larger than the field
			packet = packet[:total]
		}
		if header < 20 || header > len(packet) {
			return from, to, nil, false
		}
		packet = packet[header:]
	case kind == unix.ETH_P_IPV6 && len(packet) >= 40:
		src, dst = netip.AddrFrom16([16]byte(packet[8:])), netip.AddrFrom16([16]byte(packet[24:]))
		protocol = packet[6]
		packet = packet[40:]
	default:
		return from, to, nil, false
	}
	head := 8
	if protocol == unix.IPPROTO_TCP && len(packet) >= 20 {
		head = int(packet[12]>>4) * 4
	} else if protocol != unix.IPPROTO_UDP {
		return from, to, nil, false
	}
	if len(packet) < head {
		return from, to, nil, false
	}
	port := func(at int) uint16 { return binary.BigEndian.Uint16(packet[at:]) }
	return netip.AddrPortFrom(src, port(0)), netip.AddrPortFrom(dst, port(2)), packet[head:], true
}

// close ends the capture, after what was sent before; the kernel must not have dropped anything.
func (c *capture) close() {
	for _, t := range c.taps {
		_ = t.file.SetReadDeadline(time.Unix(1, 0)) // a closed one needs none
	}
	c.running.Wait()
	for _, t := range c.taps {
		raw, err := t.file.SyscallConn()
		if err != nil {
			continue
		}
		_ = raw.Control(func(fd uintptr) {
			if s, err := unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil && s.Drops > 0 {
				c.t.Errorf("the capture on %s lost %d frames: what it did not see proves nothing", t.node, s.Drops)
			}
		})
		t.file.Close()
	}
	c.taps = nil
}

// none ends the capture and demands that no marker was seen.
func (c *capture) none() {
	c.t.Helper()
	c.close()
	for _, m := range c.markers {
		if seen := c.seen[m.text]; len(seen) > 0 {
			c.t.Errorf("%q was sent in plaintext, %d times: %v", m.text, len(seen), seen[:min(len(seen), 5)])
		}
	}
	c.t.Logf("none of %d markers in %d frames", len(c.markers), c.frames)
}

// all ends the capture and demands that each marker was seen: without a mesh, that shows that the
// capture would have seen.
func (c *capture) all() {
	c.t.Helper()
	c.close()
	for _, m := range c.markers {
		if len(c.seen[m.text]) == 0 {
			c.t.Errorf("%q was not seen in %d frames", m.text, c.frames)
		}
	}
}

// TestCaptureFindsMarkersAcrossSegments feeds the search by hand.
func TestCaptureFindsMarkersAcrossSegments(t *testing.T) {
	const text = "marker-of-the-test"
	frame := func(payload string) []byte {
		f := make([]byte, 14+20+20, 200)
		f[12], f[13] = 0x08, 0x00
		f[14], f[14+9] = 0x45, unix.IPPROTO_TCP
		f[14+20+12] = 5 << 4
		f = append(f, payload...)
		binary.BigEndian.PutUint16(f[16:], uint16(len(f)-14))
		return f
	}
	huffman := string(hpack.AppendHuffmanString(nil, text))
	for name, c := range map[string]struct {
		segments []string
		want     bool
	}{
		"whole":            {[]string{"GET /" + text + " HTTP/1.1"}, true},
		"in two segments":  {[]string{"x: marker-of-", "the-test\r\n"}, true},
		"byte by byte":     {strings.Split("x"+text+"y", ""), true},
		"Huffman coded":    {[]string{"\x00\x8d" + huffman + "\x00"}, true},
		"one byte is off":  {[]string{"marker-of-the-tesT"}, false},
		"end before begin": {[]string{"the-test", "marker-of-"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			c2 := &capture{t: t, markers: []marker{newMarker(text)}, seen: map[string][]sighting{}}
			tap := &tap{tails: map[flow][]byte{}}
			for _, s := range c.segments {
				c2.look(tap, 1, frame(s))
			}
			if got := len(c2.seen[text]) > 0; got != c.want {
				t.Errorf("seen: %t, want %t", got, c.want)
			}
		})
	}
}
