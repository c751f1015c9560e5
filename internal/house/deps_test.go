package house

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
)

// ban is one rule of architecture.md's dependency direction. Patterns name packages without the
// module's path where they are Tulle's own; "x/..." is x and all below it.
type ban struct {
	from, except []string
	to, allowed  []string
	// direct bans the import itself; otherwise the whole way is followed.
	direct bool
	reason string
}

var bans = []ban{
	{
		from:   []string{"internal/mesh"},
		to:     []string{"module/...", "external/..."},
		reason: "everything imports internal/mesh: what it imports, everything does; the standard library is all it needs",
	},
	{
		from:   []string{"internal/mono", "internal/race", "internal/logkey", "internal/version", "internal/run", "internal/leak", "internal/scripts", "internal/held"},
		to:     []string{"api/...", "proxy/...", "controller/...", "destination/...", "identity/...", "injector/...", "viz/...", "cli/...", "internal/mesh"},
		reason: "leaf packages stay leaves",
	},
	{
		from: []string{"proxy/...", "cmd/tulle-proxy"},
		to: []string{"controller/...", "destination/...", "identity/...", "injector/...", "viz/...", "cli/...",
			"internal/shop/...", "cmd/tulle-controller", "cmd/tulle-demo"},
		reason: "the proxy runs on every node beside every workload; nothing of the control plane may travel with it",
	},
	{
		from:   []string{"proxy/...", "cmd/tulle-proxy"},
		to:     []string{"k8s.io/...", "sigs.k8s.io/...", "api/policy/..."},
		reason: "the proxy never links client-go or the Kubernetes API types: their size would be memory on every node",
	},
	{
		from:   []string{"proxy/..."},
		except: []string{"proxy/discover/...", "proxy/identity/...", "proxy/tap/...", "proxy/admin/..."},
		to:     []string{"google.golang.org/protobuf/...", "google.golang.org/grpc/...", "api/..."},
		direct: true,
		reason: "protobuf stops at the client packages; the workers see internal/mesh's nouns",
	},
	{
		from:   []string{"controller/...", "destination/...", "identity/...", "internal/..."},
		except: []string{"destination", "identity", "internal/discoverypb", "internal/shop/..."},
		to:     []string{"api/discovery/...", "api/identity/...", "api/tap/...", "google.golang.org/protobuf/..."},
		direct: true,
		reason: "protobuf stops at the package that serves it and at the one that translates; behind them, internal/mesh's nouns are spoken",
	},
	{
		from:   []string{"controller/...", "destination/...", "identity/...", "injector/...", "viz/...", "cli/..."},
		except: []string{"controller/convert/...", "controller/files/...", "controller/reflect/...", "controller/status/...", "identity/kube/...", "injector/...", "viz/kube/...", "cli/..."},
		to:     []string{"k8s.io/...", "sigs.k8s.io/gateway-api/...", "api/policy/..."},
		direct: true,
		reason: "Kubernetes types stop at the boundary that reads them; behind it the same code serves files and clusters",
	},
	{
		from:    []string{"controller/..."},
		except:  []string{"controller"}, // which puts them together
		to:      []string{"destination/...", "identity/...", "proxy/..."},
		allowed: []string{"proxy/hop"},
		reason:  "state is below the services that read it",
	},
	{
		from: []string{"controller/...", "destination/...", "identity/..."},
		to:   []string{"injector/...", "viz/...", "cli/...", "internal/shop/...", "proxy/loop/...", "proxy/exchange/...", "proxy/wire/..."},
		// Pure packages that say how an injected pod looks and what its annotations are called.
		allowed: []string{"injector/config", "injector/mark", "injector/skip"},
		reason:  "a control plane service knows neither its users nor the data plane's inside",
	},
	{
		from:   []string{"cmd/tulle-demo", "demo/...", "internal/shop/...", "cmd/tulle-shop"},
		to:     []string{"helm.sh/...", "k8s.io/client-go/...", "github.com/prometheus/prometheus/..."},
		reason: "the demo is the first thing that a newcomer builds: minutes and hundreds of megabytes otherwise",
	},
	{
		from:   []string{"internal/shop/...", "cmd/tulle-shop"},
		to:     []string{"proxy/...", "controller/...", "destination/...", "identity/...", "internal/mesh"},
		reason: "the sample is an application: it must not know that there is a mesh, and never speaks through our engines",
	},
	{
		from: []string{"cmd/..."},
		to: []string{"go.uber.org/goleak", "github.com/google/go-cmp/...", "github.com/rogpeppe/go-internal/...",
			"internal/leak", "internal/scripts", "internal/house", "test/..."},
		reason: "what tests need is not shipped",
	},
	{
		from:   []string{"cmd/..."},
		except: []string{"cmd/tulle"}, // Helm asks whether it is being tested
		to:     []string{"testing"},
		reason: "what tests need is not shipped",
	},
	{
		from:   []string{"proxy/...", "controller/...", "destination/...", "identity/...", "internal/...", "injector/...", "viz/...", "cli/..."},
		to:     []string{"cmd/...", "test/...", "bench/..."},
		reason: "programs and tests stand above what they are made of",
	},
}

type listed struct {
	ImportPath string   `json:"ImportPath"`
	Imports    []string `json:"Imports"`
	Standard   bool     `json:"Standard"`
}

// importGraph is what go list knows about every package of the module and all that they link,
// tests aside. Packages that do not compile yet are in it with the imports that they have.
var importGraph = sync.OnceValues(func() (map[string]listed, error) {
	pkgs, err := goList("-e", "-deps", "-json=ImportPath,Imports,Standard", "./...")
	graph := make(map[string]listed, len(pkgs))
	for _, p := range pkgs {
		graph[p.ImportPath] = p
	}
	return graph, err
})

// goList runs go list for what Tulle ships on: Linux, without cgo.
func goList(args ...string) ([]listed, error) {
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil, errors.New("go list: " + string(exit.Stderr))
	} else if err != nil {
		return nil, err
	}
	var pkgs []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		switch err := d.Decode(&p); {
		case errors.Is(err, io.EOF):
			return pkgs, nil
		case err != nil:
			return nil, err
		}
		pkgs = append(pkgs, p)
	}
}

// own is the path of one of Tulle's packages without the module's, or the path as it is.
func own(p string) (short string, ours bool) {
	if p == module {
		return ".", true
	}
	return strings.CutPrefix(p, module+"/")
}

func matches(p listed, patterns []string) bool {
	name, ours := own(p.ImportPath)
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		switch pattern {
		case "module/...":
			return ours
		case "external/...":
			return !ours && !p.Standard
		}
		if tree, ok := strings.CutSuffix(pattern, "/..."); ok {
			return name == tree || strings.HasPrefix(name, tree+"/")
		}
		return name == pattern
	})
}

func TestDependencyDirection(t *testing.T) {
	graph, err := importGraph()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range bans {
		for name, p := range graph {
			if _, ours := own(name); !ours || !matches(p, b.from) || matches(p, b.except) {
				continue
			}
			if way := b.search(graph, name); way != nil {
				t.Errorf("%s\n\tmust not reach %s: %s", strings.Join(way, "\n\t-> "), path.Base(way[len(way)-1]), b.reason)
			}
		}
	}
}

// search returns the shortest way from a package to one that b bans, or nil.
func (b ban) search(graph map[string]listed, from string) []string {
	ways, seen := [][]string{{from}}, map[string]bool{from: true}
	for len(ways) > 0 {
		way := ways[0]
		ways = ways[1:]
		for _, next := range graph[way[len(way)-1]].Imports {
			if seen[next] {
				continue
			}
			seen[next] = true
			p, ok := graph[next]
			if !ok {
				p = listed{ImportPath: next}
			}
			longer := append(slices.Clone(way), next)
			if matches(p, b.to) && !matches(p, b.allowed) {
				return longer
			}
			if !b.direct {
				ways = append(ways, longer)
			}
		}
	}
	return nil
}

func TestSearchFollowsTheWayThatABanForbids(t *testing.T) {
	graph := map[string]listed{
		module + "/proxy/a":    {ImportPath: module + "/proxy/a", Imports: []string{"fmt", module + "/internal/b"}},
		module + "/internal/b": {ImportPath: module + "/internal/b", Imports: []string{"k8s.io/api/core/v1"}},
	}
	for _, c := range []struct {
		name string
		ban  ban
		want int
	}{
		{"through another package", ban{to: []string{"k8s.io/..."}}, 3},
		{"not directly", ban{to: []string{"k8s.io/..."}, direct: true}, 0},
		{"one of ours, directly", ban{to: []string{"internal/..."}, direct: true}, 2},
		{"a name that only begins alike", ban{to: []string{"k8s.i/...", "internal/bb"}}, 0},
		{"what is allowed", ban{to: []string{"internal/..."}, allowed: []string{"internal/b"}}, 0},
	} {
		if way := c.ban.search(graph, module+"/proxy/a"); len(way) != c.want {
			t.Errorf("%s: found %v, want a way of %d packages", c.name, way, c.want)
		}
	}
}
