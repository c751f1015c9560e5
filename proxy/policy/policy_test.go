package policy_test

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/tulle-mesh/tulle/internal/leak"
	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/race"
	"github.com/tulle-mesh/tulle/proxy/policy"
)

func TestMain(m *testing.M) { leak.Main(m) }

// TestDefaults plays testdata/defaults.txt: a workload's policy, then lines "port client -> decision".
func TestDefaults(t *testing.T) { // R9.2, R9.4
	f, err := os.Open("testdata/defaults.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var p *mesh.InboundPolicy
	sc := bufio.NewScanner(f)
	for n := 1; sc.Scan(); n++ {
		line, _, _ := strings.Cut(sc.Text(), "#")
		w := strings.Fields(line)
		switch {
		case len(w) == 0:
		case w[0] == "workload":
			p = read(t, w[1:])
		default:
			in, want, _ := strings.Cut(line, " -> ")
			port, err := strconv.ParseUint(w[0], 10, 16)
			if err != nil {
				t.Fatal(err)
			}
			client := mesh.Identity(w[1])
			if client == "nobody" {
				client = ""
			}
			if got := show(policy.Decide(p, uint16(port), client)); got != strings.TrimSpace(want) {
				t.Errorf("defaults.txt:%d: %s\n got %s\nwant %s", n, in, got, want)
			}
		}
	}
}

// read reads "<default> domain=<trust domain> <port>=<default> …".
func read(t *testing.T, w []string) *mesh.InboundPolicy {
	if w[0] == "unknown" {
		return nil
	}
	def := func(s string) mesh.Default {
		if s == "future" {
			return 99
		}
		d, err := mesh.ParseDefault(s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	p := &mesh.InboundPolicy{Default: def(w[0])}
	for _, o := range w[1:] {
		k, v, _ := strings.Cut(o, "=")
		if k == "domain" {
			p.TrustDomain = v
			continue
		}
		port, err := strconv.ParseUint(k, 10, 16)
		if err != nil {
			t.Fatal(err)
		}
		p.Ports = append(p.Ports, mesh.PortPolicy{Port: uint16(port), Default: def(v)})
	}
	return p
}

func show(d policy.Decision) string {
	s := "denied"
	if d.Allow {
		s = "allowed"
	}
	if d.Audit {
		s += ", told"
	}
	return fmt.Sprintf("%s by %s: %s", s, d.Policy, d.Reason)
}

func TestDecideAllocatesNothing(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	p := read(t, []string{"cluster-authenticated", "domain=cluster.local", "80=all-authenticated"})
	if n := testing.AllocsPerRun(1000, func() {
		policy.Decide(p, 80, "spiffe://cluster.local/ns/shop/sa/web")
		policy.Decide(p, 81, "spiffe://cluster.local/ns/shop/sa/web")
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
