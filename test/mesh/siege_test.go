package mesh

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/identity"
	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/proxy"
)

// siege is a mesh of two proxy processes under attack. Neighbours use the same proxies all the while:
// each of their answers must be right, whatever happens next door. docs/attacks.md lists the attacks.
type siege struct {
	*world

	good       *ca // signs what an attacker inside the mesh shows
	neighbours []*neighbour
	victim     *victim
	fds        [2]int // of the client's and the server's proxy, before anything happened
}

// mostSieged is how much a proxy may have resident at any time of a siege, in bytes: what it is itself
// and its budget of 64 MiB for buffers (R4.2), with what the collector has not found yet.
const mostSieged = 128 << 20

// siegeSlots are for the neighbours, the victim and wires; rogueSlots for peers that an attacker plays.
const siegeSlots, rogueSlots = 60, 30

func newSiege(t *testing.T, env ...string) *siege {
	good := newCA(t, "good")
	cfg := worldConfig{
		mode: binaries, slots: siegeSlots, plane: planeConfig{authority: identity.AuthorityConfig{Given: good.given()}},
		env: append([]string{"TULLE_POOL_IDLE_TIMEOUT=2s"}, env...),
	}
	s := &siege{world: bareWorld(t, cfg), good: good}
	s.announce(cfg, s.net+"4")
	s.plane.write("rogue.yaml", serviceYAML("rogue", rogueSlots)+"---\n"+
		workload{name: "rogue-1", account: "rogue", service: "rogue", addr: s.net + "6", ports: rogueSlots}.yaml())
	s.server = s.start(s.serverSpec(false))
	spec := s.clientSpec(false)
	for i := range rogueSlots {
		spec.upstreams = append(spec.upstreams, proxy.Upstream{
			Listen: addrPort(s.net+"2", slotPort(1000+i)), Target: mesh.NameTarget("rogue.shop", uint16(slotPort(i))),
		})
	}
	s.client = s.start(spec)
	s.victim = s.newVictim(t)
	s.settle(t)
	t.Cleanup(func() { s.over(t) })
	return s
}

// door is where an attacker stands.
type door uint8

const (
	fromApp   door = iota // beside the client's proxy, as its application
	fromNet               // in the network: plaintext to the server's proxy
	fromInner             // in the mesh: mutual TLS to the server's proxy, with a good certificate
)

func doors() []door { return []door{fromApp, fromNet, fromInner} }

func (d door) String() string {
	return [...]string{"as the application", "from the network", "from within the mesh"}[d]
}

// admin is the address of the metrics of the proxy that the door belongs to.
func (s *siege) admin(d door) string {
	if d == fromApp {
		return s.net + "2:4191"
	}
	return s.net + "4:4191"
}

// inbound is where the network reaches a slot.
func (s *siege) inbound(x slot) string {
	_, port, _ := net.SplitHostPort(x.app)
	return net.JoinHostPort(s.net+"4", port)
}

// knock connects to the proxy of a slot by one of its doors. The protocol matters within the mesh alone.
func (s *siege) knock(t testing.TB, d door, x slot, alpn string) net.Conn {
	t.Helper()
	if d == fromApp {
		return connect(t, x.dial)
	}
	c := connect(t, s.inbound(x))
	if d == fromNet {
		return c
	}
	leaf := s.good.leaf(-time.Hour, time.Hour, mesh.NewIdentity(trustDomain, "shop", "rogue"))
	enc := tls.Client(c, &tls.Config{
		InsecureSkipVerify: true, NextProtos: []string{alpn}, MinVersion: tls.VersionTLS13,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &leaf, nil },
	})
	ok(t, enc.SetDeadline(deadline(t)))
	ok(t, enc.Handshake())
	return enc
}

// victim is an application of net/http that notes what reaches it.
type victim struct {
	slot

	begun, now atomic.Int64
}

func (s *siege) newVictim(t *testing.T) *victim {
	v := &victim{slot: s.slot(t)}
	l, err := net.Listen("tcp", v.app)
	ok(t, err)
	serveHTTP(t, l, func(rw http.ResponseWriter, r *http.Request) {
		v.begun.Add(1)
		v.now.Add(1)
		defer v.now.Add(-1)
		if strings.HasPrefix(r.URL.Path, "/hold") {
			<-r.Context().Done()
			return
		}
		if n, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/bytes/")); err == nil {
			_, _ = io.Copy(rw, payload(1, int64(n))) // the client may be gone
			return
		}
		b, err := io.ReadAll(r.Body)
		if err == nil {
			fmt.Fprintf(rw, "%s %s", r.URL.Path, b)
		}
	})
	return v
}

// neighbour is an honest client in a loop.
type neighbour struct {
	name   string
	served atomic.Int64
	failed atomic.Pointer[string]
}

// settle starts the neighbours.
func (s *siege) settle(t *testing.T) {
	dial, l := s.listen(t)
	_, port, _ := net.SplitHostPort(dial)
	inbound := net.JoinHostPort(s.net+"4", port)
	serveHTTP(t, l, func(rw http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err == nil {
			fmt.Fprint(rw, r.URL.Path, " ", string(b))
		}
	})
	var all sync.WaitGroup
	stop := make(chan struct{})
	for _, n := range []struct {
		name, addr string
		c          *http.Client
	}{
		{"HTTP/1 application", dial, http1Client(t)}, {"HTTP/2 application", dial, http2Client(t)},
		{"HTTP/1 of the network", inbound, http1Client(t)}, {"HTTP/2 of the network", inbound, http2Client(t)},
	} {
		one := &neighbour{name: n.name}
		s.neighbours = append(s.neighbours, one)
		all.Go(func() { one.live(n.c, "http://"+n.addr, stop) }) // ended by stop
	}
	t.Cleanup(func() { close(stop); all.Wait() })
	s.served(t)
	s.fds = [2]int{descriptors(t, s.client.pid), descriptors(t, s.server.pid)}
}

// live asks every now and then until stop.
func (n *neighbour) live(c *http.Client, url string, stop <-chan struct{}) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	c.Timeout = limit()
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		path, body := fmt.Sprintf("/%d", i), fmt.Sprint(n.name, i)
		got, err := ask(c, url+path, body)
		if err != nil || got != path+" "+body {
			why := fmt.Sprintf("request %d: %q, %v", i, got, err)
			n.failed.CompareAndSwap(nil, &why)
		}
		n.served.Add(1)
	}
}

func ask(c *http.Client, url, body string) (string, error) {
	resp, err := c.Post(url, "text/plain", strings.NewReader(body))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s (%s)", resp.Status, resp.Header.Get("Tulle-Proxy-Error"))
	}
	return string(b), err
}

// served waits until each neighbour has had a request served that began after now, and reports what failed.
func (s *siege) served(t testing.TB) {
	t.Helper()
	for _, n := range s.neighbours {
		from := n.served.Load()
		until(t, "answer for the neighbour "+n.name, func() bool { return n.served.Load() >= from+2 })
		if why := n.failed.Swap(nil); why != nil {
			t.Errorf("the neighbour %s: %s", n.name, *why)
		}
	}
}

// counted is the sum of those of a proxy's series whose line holds each of the parts.
func counted(t testing.TB, admin string, parts ...string) float64 {
	t.Helper()
	resp, err := http.Get("http://" + admin + "/metrics")
	ok(t, err)
	defer resp.Body.Close()
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	var sum float64
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		line := lines.Text()
		holds := !strings.HasPrefix(line, "#")
		for _, p := range parts {
			holds = holds && strings.Contains(line, p)
		}
		if holds {
			v, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
			ok(t, err)
			sum += v
		}
	}
	return sum
}

// refusedFor and timedOut are parts for counted.
func refusedFor(reason string) string { return `proxy_refused_total{reason="` + reason + `"}` }

func timedOut(kind string) string { return `timeout_total{kind="` + kind + `"}` }

// attack runs f; then a counter of the door's proxy must have grown by least, and neighbours were and
// are served.
func (s *siege) attack(t *testing.T, d door, series string, least int, f func(t *testing.T)) {
	t.Helper()
	before := counted(t, s.admin(d), series)
	f(t)
	s.served(t)
	until(t, "count of "+series, func() bool { return counted(t, s.admin(d), series) >= before+float64(least) })
}

// over looks at what the proxies are left with once the attackers are gone.
func (s *siege) over(t *testing.T) {
	s.served(t)
	until(t, "end of the victim's requests", func() bool { return s.victim.now.Load() == 0 })
	for i, p := range []*running{s.client, s.server} {
		until(t, "end of what attackers left open", func() bool { return descriptors(t, p.pid) <= s.fds[i]+20 })
		most := resident(t, p.pid)
		t.Logf("%s: %.1f MiB resident at most, %d descriptors, %d before", []string{"outbound", "inbound"}[i],
			float64(most)/(1<<20), descriptors(t, p.pid), s.fds[i])
		if most > mostSieged {
			t.Errorf("over %d MiB", mostSieged>>20)
		}
	}
}

// descriptors is how many a process has open.
func descriptors(t testing.TB, pid int) int {
	t.Helper()
	list, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/fd")
	ok(t, err)
	return len(list)
}
