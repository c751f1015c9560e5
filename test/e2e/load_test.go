package e2e

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/test/cluster/image"
)

// loadRef is the image of package load, both ends of the traffic.
const loadRef = "tulle.test/load:1"

// loadImage builds package load and puts it into the nodes.
func (e *env) loadImage() {
	e.t.Helper()
	ctx, stop := e.ctx()
	defer stop()
	dir := e.t.TempDir()
	program, archive := filepath.Join(dir, "load"), filepath.Join(dir, "load.tar")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "./load")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		e.t.Fatalf("go build ./load: %v\n%s", err, out)
	}
	var files image.Files
	err := files.File(program, "/load")
	if err == nil {
		err = image.Write(archive, loadRef, image.Config{Entrypoint: files.Entrypoint()}, &files)
	}
	if err == nil {
		err = e.LoadImages(ctx, archive)
	}
	if err != nil {
		e.t.Fatal(err)
	}
}

// journals is what the containers of a namespace have printed, all of it: the files are read on the
// nodes' disks, and held open, so that a pod's last words are not lost with the pod.
type journals struct {
	pattern []string
	open    map[string]*journal // by path
	all     []*journal
}

// journal is one file of one container.
type journal struct {
	pod, container string
	file           *os.File
	rest           []byte // a line's beginning
	lines          []entry
}

type entry struct {
	at   time.Time
	text string
}

// follow reads until stop, which returns after the last line.
func (e *env) follow() (j *journals, stop func()) {
	j = &journals{open: map[string]*journal{}}
	for _, node := range []string{"n1", "n2"} {
		j.pattern = append(j.pattern, filepath.Join(e.Node(node).PodLogs(), e.namespace+"_*", "*", "*.log"))
	}
	ctx, cancel := context.WithCancel(e.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { // ended by stop
		for ctx.Err() == nil {
			j.read()
			select {
			case <-ctx.Done():
			case <-time.After(300 * time.Millisecond): // a pod lives for seconds
			}
		}
	})
	return j, sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		j.read()
		for _, f := range j.all {
			f.file.Close()
		}
	})
}

func (j *journals) read() {
	for _, pattern := range j.pattern {
		paths, _ := filepath.Glob(pattern) // the pattern is a good one
		for _, p := range paths {
			j.find(p)
		}
	}
	for _, f := range j.all {
		f.read()
	}
}

// find opens a file that is new, or has taken the place of one that was full.
func (j *journals) find(path string) {
	now, err := os.Stat(path)
	if err != nil {
		return // gone meanwhile
	}
	if f := j.open[path]; f != nil {
		if held, err := f.file.Stat(); err == nil && os.SameFile(held, now) {
			return
		}
	}
	file, err := os.Open(path)
	if err != nil {
		return
	}
	container := filepath.Dir(path)
	parts := strings.Split(filepath.Base(filepath.Dir(container)), "_")
	f := &journal{pod: parts[1], container: filepath.Base(container), file: file}
	j.open[path] = f
	j.all = append(j.all, f)
}

// read takes the whole lines that have come, in the form TIME STREAM F TEXT.
func (f *journal) read() {
	more, _ := io.ReadAll(f.file) // what cannot be read now is read next time
	f.rest = append(f.rest, more...)
	for {
		line, rest, whole := strings.Cut(string(f.rest), "\n")
		if !whole {
			return
		}
		f.rest = []byte(rest)
		if parts := strings.SplitN(line, " ", 4); len(parts) == 4 {
			at, _ := time.Parse(time.RFC3339Nano, parts[0])
			f.lines = append(f.lines, entry{at, parts[3]})
		}
	}
}

// request is one as its client saw it.
type request struct {
	id, server, kind string
	left             time.Time
	took             time.Duration
	failure          string
}

func (r request) String() string {
	return fmt.Sprintf("%s %s %s, sent %s, %.3f s: %s", r.id, r.server, r.kind, r.left.UTC().Format("15:04:05.000"), r.took.Seconds(), cmp.Or(r.failure, "ok"))
}

// verdict is what became of all requests.
type verdict struct {
	sent []request
	// failed are those whose clients saw no good answer; lost were answered well, and no server knows
	// them; doubled came to servers more than once.
	failed, lost []request
	doubled      []string
	// wrong is what keeps the others from being believed.
	wrong []string
}

// judge compares what clients wrote with what servers wrote, id by id.
func (j *journals) judge() verdict {
	var v verdict
	got := map[string][]string{}
	for _, f := range j.all {
		switch f.container {
		case "client":
			v.client(f)
		case "server":
			for _, l := range f.lines {
				if id, ok := strings.CutPrefix(l.text, "got "); ok {
					got[id] = append(got[id], f.pod)
				}
			}
		}
	}
	for _, r := range v.sent {
		switch at := got[r.id]; {
		case r.failure != "":
			v.failed = append(v.failed, r)
		case len(at) == 0:
			v.lost = append(v.lost, r)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(got)) {
		if at := got[id]; len(at) > 1 {
			v.doubled = append(v.doubled, fmt.Sprintf("%s at %s", id, strings.Join(at, " and ")))
		}
	}
	slices.SortFunc(v.sent, func(a, b request) int { return a.left.Compare(b.left) })
	slices.SortFunc(v.failed, func(a, b request) int { return a.left.Compare(b.left) })
	return v
}

// client takes a client's journal, which is whole when it ends with the number of requests.
func (v *verdict) client(f *journal) {
	n, end := 0, ""
	for _, l := range f.lines {
		r, err := parseRequest(l.text)
		switch {
		case err == nil:
			n++
			v.sent = append(v.sent, r)
		case strings.HasPrefix(l.text, "end "):
			end = l.text
		default:
			v.wrong = append(v.wrong, f.pod+" says: "+l.text)
		}
	}
	if want := fmt.Sprintf("end %d", n); end != want {
		v.wrong = append(v.wrong, fmt.Sprintf("%s has %d requests in its journal and ends with %q", f.pod, n, end))
	}
}

// parseRequest reads: sent ID SERVER KIND LEFT TOOK ok, or: failed "…", both in microseconds.
func parseRequest(line string) (request, error) {
	w := strings.SplitN(line, " ", 8)
	if len(w) < 7 || w[0] != "sent" {
		return request{}, errors.New("no request")
	}
	left, err := strconv.ParseInt(w[4], 10, 64)
	took, err2 := strconv.ParseInt(w[5], 10, 64)
	r := request{id: w[1], server: w[2], kind: w[3], left: time.UnixMicro(left), took: time.Duration(took) * time.Microsecond}
	if w[6] != "ok" {
		r.failure = strings.Join(w[7:], "")
	}
	return r, errors.Join(err, err2)
}

// step is a part of a run.
type step struct {
	name       string
	begun, end time.Time
}

// report prints a line per step, and fails the test for each request that is not as it should be.
func (v *verdict) report(t *testing.T, steps []step) {
	t.Helper()
	for _, s := range steps {
		t.Logf("%-40s %5.1f s  %s", s.name, s.end.Sub(s.begun).Seconds(), v.between(s.begun, s.end))
	}
	t.Logf("%-50s %s", "all", v.between(time.Time{}, time.Now()))
	slowest := slices.SortedFunc(slices.Values(v.sent), func(a, b request) int { return cmp.Compare(b.took, a.took) })
	for _, r := range slowest[:min(len(slowest), 3)] {
		t.Logf("slowest: %v", r)
	}
	many := func(what string, all []string) {
		for _, one := range all[:min(len(all), 20)] {
			t.Errorf("%s: %s", what, one)
		}
		if len(all) > 20 {
			t.Errorf("%s: %d more", what, len(all)-20)
		}
	}
	many("failed", texts(v.failed))
	many("answered by nobody", texts(v.lost))
	many("doubled", v.doubled)
	many("wrong", v.wrong)
}

func texts(all []request) []string {
	var out []string
	for _, r := range all {
		out = append(out, r.String())
	}
	return out
}

// between sums up the requests that left in a span of time.
func (v *verdict) between(from, to time.Time) string {
	var took []time.Duration
	failed := 0
	for _, r := range v.sent {
		if r.left.Before(from) || !r.left.Before(to) {
			continue
		}
		took = append(took, r.took)
		if r.failure != "" {
			failed++
		}
	}
	if len(took) == 0 {
		return "no requests"
	}
	slices.Sort(took)
	at := func(share float64) time.Duration {
		return took[int(share*float64(len(took)-1))].Round(100 * time.Microsecond)
	}
	return fmt.Sprintf("%6d requests, %d failed; p50 %v, p99 %v, max %v", len(took), failed, at(0.5), at(0.99), at(1))
}

// since sums up what failed because of something that happened at one moment.
func (v *verdict) since(at time.Time) string {
	before := 0
	var last, longest time.Duration
	for _, r := range v.failed {
		if r.left.Before(at) {
			before++
		}
		last, longest = max(last, r.left.Sub(at)), max(longest, r.took)
	}
	return fmt.Sprintf("%d failed: %d that had left before, and others until %.1f s later; the client waited up to %.1f s for it",
		len(v.failed), before, last.Seconds(), longest.Seconds())
}

// around prints what proxies said near the first failures: what a person needs to find their cause.
func (j *journals) around(t *testing.T, v verdict) {
	for _, r := range v.failed[:min(len(v.failed), 3)] {
		var said []string
		for _, f := range j.all {
			for _, l := range f.lines {
				if f.container == "tulle-proxy" && l.at.Sub(r.left).Abs() < r.took+2*time.Second {
					said = append(said, fmt.Sprintf("%s %s %s", l.at.UTC().Format("15:04:05.000"), f.pod, l.text))
				}
			}
		}
		slices.Sort(said)
		t.Logf("%v; near it, proxies said:\n%s", r, strings.Join(said[:min(len(said), 60)], "\n"))
	}
}

// save keeps everything that was printed, as a file per container, below the directory of logs.
func (j *journals) save(t *testing.T) {
	dir := filepath.Join(*logs+"-journals", t.Name())
	err := os.RemoveAll(dir)
	for _, f := range j.all {
		err = errors.Join(err, f.save(dir))
	}
	t.Logf("journals are in %s (%v)", dir, err)
}

func (f *journal) save(dir string) error {
	dir = filepath.Join(dir, f.pod)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	out, err := os.OpenFile(filepath.Join(dir, f.container), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	w := bufio.NewWriter(out)
	for _, l := range f.lines {
		fmt.Fprintf(w, "%s %s\n", l.at.UTC().Format("15:04:05.000000"), l.text)
	}
	return w.Flush()
}

// TestTheJudgeTellsWhatIsWrong needs no cluster.
func TestTheJudgeTellsWhatIsWrong(t *testing.T) {
	t.Parallel()
	container := func(pod, container string, lines ...string) *journal {
		j := &journal{pod: pod, container: container}
		for _, l := range lines {
			j.lines = append(j.lines, entry{text: l})
		}
		return j
	}
	j := &journals{all: []*journal{
		container("c1", "client", "sent c1.0 s h1-get 1 5 ok", "sent c1.1 s h1-get 2 5 ok", `sent c1.2 s h2-get 3 5 failed "502 Bad Gateway: why"`,
			"sent c1.3 s grpc-unary 4 5 ok", "end 4"),
		container("c2", "client", "sent c2.0 s h1-get 1 5 ok"),
		container("c3", "client", "panic: oh", "end 0"),
		container("s1", "server", "got c1.0", "got c1.2", "got c1.3"),
		container("s2", "server", "got c1.3", "got c2.0"),
	}}
	v := j.judge()
	got := fmt.Sprint(texts(v.failed), texts(v.lost), v.doubled, v.wrong)
	want := `[c1.2 s h2-get, sent 00:00:00.000, 0.000 s: "502 Bad Gateway: why"] [c1.1 s h1-get, sent 00:00:00.000, 0.000 s: ok] ` +
		`[c1.3 at s1 and s2] [c2 has 1 requests in its journal and ends with "" c3 says: panic: oh]`
	if got != want {
		t.Errorf("found\n%s, not\n%s", got, want)
	}
}
