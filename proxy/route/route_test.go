package route_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tulle-mesh/tulle/internal/leak"
	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/race"
	"github.com/tulle-mesh/tulle/proxy/route"
)

func TestMain(m *testing.M) { leak.Main(m) }

// TestWeightedBackends plays testdata/weights.txt: a route's backends and what 200,000 requests get.
func TestWeightedBackends(t *testing.T) {
	f, err := os.Open("testdata/weights.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	for n := 1; sc.Scan(); n++ {
		line, _, _ := strings.Cut(sc.Text(), "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		in, want, _ := strings.Cut(line, " -> ")
		if got := play(t, policyOf(t, in)); got != strings.TrimSpace(want) {
			t.Errorf("weights.txt:%d: %s: got %q, want %q", n, in, got, want)
		}
	}
}

// policyOf reads "none", or routes divided by "|", of backends name:port=weight.
func policyOf(t *testing.T, s string) *mesh.TargetPolicy {
	p := &mesh.TargetPolicy{}
	if strings.TrimSpace(s) == "none" {
		return p
	}
	for i, r := range strings.Split(s, "|") {
		rt := mesh.Route{Name: fmt.Sprintf("shop/r%d", i+1)}
		for b := range strings.FieldsSeq(r) {
			name, w, _ := strings.Cut(b, "=")
			target, err := mesh.ParseTarget(name)
			if err != nil {
				t.Fatal(err)
			}
			n, err := strconv.ParseUint(w, 10, 32)
			if err != nil {
				t.Fatal(err)
			}
			rt.Backends = append(rt.Backends, mesh.Backend{Target: target, Weight: uint32(n)})
		}
		p.Routes = append(p.Routes, rt)
	}
	return p
}

// play rounds shares of 10,000 requests to whole percents.
func play(t *testing.T, p *mesh.TargetPolicy) string {
	rng := rand.New(rand.NewPCG(3, 4))
	got := map[string]int{}
	for range 200000 {
		name, to, ok := route.Pick(p, rng)
		switch {
		case ok:
			got[name+" "+to.String()]++
		case name == "":
			got["itself"]++
		default:
			got[name+" nowhere"]++
		}
	}
	var out []string
	for k, n := range got {
		out = append(out, fmt.Sprintf("%s %d%%", k, (n+1000)/2000))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func TestPickAllocatesNothing(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	p := policyOf(t, "a.shop:80=1 b.shop:80=2")
	rng := rand.New(rand.NewPCG(3, 4))
	if n := testing.AllocsPerRun(1000, func() { route.Pick(p, rng) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
	if _, _, ok := route.Pick(nil, rng); ok {
		t.Error("a target without a policy has a route")
	}
}
