package destination

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/tulle-mesh/tulle/api/discovery/v1"
	"github.com/tulle-mesh/tulle/controller/files"
	"github.com/tulle-mesh/tulle/controller/state"
	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/scripts"
	"github.com/tulle-mesh/tulle/proxy/discover"
)

var update = flag.Bool("update", false, "write what came out into testdata")

// TestScripts plays testdata/*.txtar: YAML in, what proxies are told out, faults in between. Lines
// that begin with "> " are run, the others are text:
//
//	> write shop.yaml [as other.yaml]      puts a file of the archive into the directory
//	> remove shop.yaml
//	> read                                 looks at the directory
//	> proxy web shop/web-1 [SPIFFE ID]     starts a proxy; its identity is its workload's if not said
//	> subscribe web catalog.shop:80        and unsubscribe
//	> lose web delta                       the network loses the next delta
//	> corrupt web catalog.shop:80          a row changes in its balancer
//	> refuse web REASON...                 it refuses what comes; "accept web" ends that
//	> stop web / > go web                  it reads nothing; it reads again
//	> wait 5s
//	> told web NAME                        compares what it was told since the last time
//	> status NAME                          compares what the server knows of its proxies
func TestScripts(t *testing.T) {
	scripts.All(t, *update, func(t *testing.T, a *scripts.Archive) {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) { play(t, a, dir) })
	})
}

type script struct {
	t       *testing.T
	archive *scripts.Archive
	dir     string
	plane   *plane
	source  *files.Reflector
	proxies map[string]*proxy
	gates   map[string]chan struct{}
}

func play(t *testing.T, a *scripts.Archive, dir string) {
	s := &script{t: t, archive: a, dir: dir, proxies: map[string]*proxy{}, gates: map[string]chan struct{}{}}
	s.plane = newPlane(t, Config{Store: state.NewStore(state.Settings{})})
	defer s.plane.stop()
	s.source = files.New(files.Config{Dir: dir, Store: s.plane.store})
	a.Run(s.run)
	for _, x := range s.proxies {
		x.stop()
	}
}

func (s *script) run(args []string) {
	s.t.Helper()
	switch args[0] {
	case "write":
		if err := os.WriteFile(filepath.Join(s.dir, args[len(args)-1]), s.archive.File(s.t, args[1]), 0o600); err != nil {
			s.t.Fatal(err)
		}
	case "remove":
		if err := os.Remove(filepath.Join(s.dir, args[1])); err != nil {
			s.t.Fatal(err)
		}
	case "read":
		s.source.Read()
	case "wait":
		d, err := time.ParseDuration(args[1])
		if err != nil {
			s.t.Fatal(err)
		}
		settle(d)
	case "proxy":
		s.connect(args[1:])
	case "status":
		s.status(args[1])
	default:
		x := s.proxies[args[1]]
		if x == nil {
			s.t.Fatalf("no command or proxy: %q", args)
		}
		s.command(x, args)
	}
	synctest.Wait()
}

func (s *script) command(x *proxy, args []string) {
	s.t.Helper()
	x.mu.Lock()
	defer x.mu.Unlock()
	switch args[0] {
	case "subscribe":
		x.client.Subscribe(s.target(args[2]))
	case "unsubscribe":
		x.client.Unsubscribe(s.target(args[2]))
	case "lose":
		x.lose = func(m *pb.SyncResponse) bool {
			if !isDelta(m) {
				return false
			}
			x.trace = append(x.trace, "(a delta is lost)")
			x.lose = nil
			return true
		}
	case "corrupt":
		rows := x.tables[s.target(args[2])].rows
		a := slices.SortedFunc(maps.Keys(rows), netip.AddrPort.Compare)[0]
		e := rows[a]
		e.Identity = "spiffe://cluster.local/ns/shop/sa/mallory"
		rows[a] = e
		x.trace = append(x.trace, "("+a.String()+" is corrupted)")
	case "refuse":
		x.refuse = func(discover.Update) error { return errors.New(strings.Join(args[2:], " ")) }
	case "accept":
		x.refuse = nil
	case "stop":
		gate := make(chan struct{})
		s.gates[args[1]] = gate
		x.after = func(discover.Update) { <-gate }
	case "go":
		x.after = nil
		close(s.gates[args[1]])
	case "told":
		s.archive.Compare(s.t, args[2], strings.Join(append(x.trace, ""), "\n"))
		x.trace = nil
	default:
		s.t.Fatalf("no command %q", args[0])
	}
}

func (s *script) target(name string) mesh.Target {
	t, err := mesh.ParseTarget(name)
	if err != nil {
		s.t.Fatal(err)
	}
	return t
}

func (s *script) connect(args []string) {
	ns, name, _ := strings.Cut(args[1], "/")
	var id mesh.Identity
	if len(args) > 2 {
		id = mesh.Identity(args[2])
	} else if w := s.plane.store.Snapshot().Workload(state.Name{Namespace: ns, Name: name}); w != nil {
		id = w.Identity
	}
	s.proxies[args[0]] = s.plane.connect(id, discover.Config{Namespace: ns, Name: name}, func(x *proxy) { x.traced, x.verbose = true, true })
}

func (s *script) status(name string) {
	var b bytes.Buffer
	for _, st := range s.plane.server.Status().Streams {
		fmt.Fprintf(&b, "%s %s\n", st.Proxy, st.Identity)
		if st.Refused != "" {
			fmt.Fprintf(&b, "\trefused: %s\n", st.Refused)
		}
		for _, sub := range st.Subjects {
			fmt.Fprintf(&b, "\t%s", sub.Target)
			switch {
			case sub.Nack != nil:
				fmt.Fprintf(&b, " refused: %s", sub.Nack.Reason)
			case sub.InFlight:
				fmt.Fprint(&b, " is under way")
			case sub.Sent == 0:
				fmt.Fprint(&b, " was never told")
			case sub.Acked == sub.Sent:
				fmt.Fprint(&b, " is acknowledged")
			}
			fmt.Fprintln(&b)
		}
	}
	s.archive.Compare(s.t, name, b.String())
}
