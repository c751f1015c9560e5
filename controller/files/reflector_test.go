package files

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/controller/state"
	"github.com/tulle-mesh/tulle/controller/status"
	"github.com/tulle-mesh/tulle/internal/mesh"
)

func workloadYAML(name, ip string) []byte {
	return fmt.Appendf(nil, `apiVersion: policy.tulle.dev/v1alpha1
kind: ExternalWorkload
metadata: {name: %s, namespace: shop}
spec:
  addresses: [%s]
  ports: [{port: 80}]
`, name, ip)
}

// replace writes a file the way that it should be: beside the directory, then renamed into it.
func replace(t *testing.T, path string, data []byte) {
	t.Helper()
	tmp := filepath.Join(t.TempDir(), "new")
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, path); err != nil {
		t.Fatal(err)
	}
}

// running starts a Reflector whose rescans never come, so that what it sees it saw by the watch.
func running(t *testing.T, dir string) (*Reflector, *state.Watch) {
	store := state.NewStore(state.Settings{})
	r := New(Config{Dir: dir, Store: store, Reports: status.NewSet(nil), Rescan: time.Hour})
	w := store.Watch()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { r.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait(); w.Close() })
	return r, w
}

// until waits for a change after which ok holds.
func until(t *testing.T, r *Reflector, w *state.Watch, ok func(*state.Snapshot) bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for !ok(r.cfg.Store.Snapshot()) {
		select {
		case <-w.Ready():
			w.Take()
		case <-deadline:
			t.Fatal("the change was not seen")
		}
	}
}

func knows(target string) func(*state.Snapshot) bool {
	return func(s *state.Snapshot) bool {
		t, err := mesh.ParseTarget(target)
		if err != nil {
			panic(err)
		}
		table, _ := s.Resolve(t)
		return table != nil
	}
}

func TestTheWatchSeesFilesComeChangeAndGoInSubdirectoriesToo(t *testing.T) {
	dir := t.TempDir()
	r, w := running(t, dir)
	<-r.cfg.Store.Synced()
	replace(t, filepath.Join(dir, "a.yaml"), workloadYAML("a", "10.0.0.1"))
	until(t, r, w, knows("10.0.0.1:80"))
	replace(t, filepath.Join(dir, "a.yaml"), workloadYAML("a", "10.0.0.2"))
	until(t, r, w, knows("10.0.0.2:80"))

	sub := filepath.Join(dir, "sub")
	if err := os.Mkdir(sub, 0o700); err != nil {
		t.Fatal(err)
	}
	replace(t, filepath.Join(sub, "b.yaml"), workloadYAML("b", "10.0.0.3"))
	until(t, r, w, knows("10.0.0.3:80"))
	replace(t, filepath.Join(sub, "b.yaml"), workloadYAML("b", "10.0.0.4"))
	until(t, r, w, knows("10.0.0.4:80"))

	if err := os.RemoveAll(sub); err != nil {
		t.Fatal(err)
	}
	until(t, r, w, func(s *state.Snapshot) bool { return !knows("10.0.0.4:80")(s) && knows("10.0.0.2:80")(s) })
}

func TestARescanSeesWhatTheWatchDidNot(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.yaml")
	replace(t, path, workloadYAML("a", "10.0.0.1"))
	store := state.NewStore(state.Settings{})
	r := New(Config{Dir: dir, Store: store})
	r.scan(nil, true, nil)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	replace(t, path, workloadYAML("a", "10.0.0.2")) // of the same size
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	r.scan(nil, false, nil)
	if knows("10.0.0.2:80")(store.Snapshot()) {
		t.Fatal("the test wants a change that size and time do not show")
	}
	r.scan(nil, true, nil)
	if !knows("10.0.0.2:80")(store.Snapshot()) {
		t.Error("the rescan did not see it")
	}
}

func TestADirectoryThatCannotBeListedTakesNothingAway(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	replace(t, filepath.Join(dir, "a.yaml"), workloadYAML("a", "10.0.0.1"))
	store, set := state.NewStore(state.Settings{}), status.NewSet(nil)
	r := New(Config{Dir: dir, Store: store, Reports: set})
	r.scan(nil, true, nil)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	r.scan(nil, true, nil)
	if !knows("10.0.0.1:80")(store.Snapshot()) {
		t.Error("its objects are gone")
	}
	if all := set.All(); len(all) != 1 || all[0].Severity != status.Broken || all[0].File != dir {
		t.Errorf("reports: %v", all)
	}
}

// A change among 10,000 workloads of one file costs one document and one row of the tables.
func BenchmarkScan(b *testing.B) {
	dir := b.TempDir()
	var all bytes.Buffer
	for i := range 10_000 {
		fmt.Fprintf(&all, "---\n%s", workloadYAML(fmt.Sprintf("w%d", i), fmt.Sprintf("10.0.%d.%d", i>>8, i&255)))
	}
	path := filepath.Join(dir, "all.yaml")
	r := New(Config{Dir: dir, Store: state.NewStore(state.Settings{})})
	n := 0
	if err := os.WriteFile(path, all.Bytes(), 0o600); err != nil {
		b.Fatal(err)
	}
	r.scan(nil, true, nil)
	for b.Loop() {
		n++
		data := append(workloadYAML("changing", fmt.Sprintf("10.9.%d.%d", n>>8&255, n&255)), all.Bytes()...)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			b.Fatal(err)
		}
		r.scan(nil, true, nil)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}\n"))
	f.Add(append(workloadYAML("a", "10.0.0.1"), []byte("---\nkind: List\napiVersion: v1\nitems: [{kind: x}, 3]\n")...))
	f.Add([]byte("--- # x\n&a [*a]\n---\n\t\n"))
	f.Add([]byte("apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: a}\nspec: {rules: [{filters: [{}]}], parentRefs: [{name: x, kind: Service, group: ''}]}\n"))
	f.Add([]byte("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a, labels: {kubernetes.io/service-name: a}}\nports: [{port: 1}]\nendpoints: [{addresses: ['1.1.1.1']}]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := parse("f.yaml", "cluster.local", data, content{})
		lines := strings.Count(string(data), "\n") + 2
		for _, r := range c.reports {
			if r.Line < 1 || r.Line > lines {
				t.Errorf("line %d of %d: %s", r.Line, lines, r)
			}
			if r.Message == "" {
				t.Errorf("a report without a message: %+v", r)
			}
		}
		store := state.NewStore(state.Settings{})
		store.Apply(func(x *state.Tx) {
			for _, o := range c.objects {
				o.put(x)
			}
		})
		status.Check(store.Snapshot())
		if p := store.Audit(); p != nil {
			t.Error(p)
		}
	})
}
