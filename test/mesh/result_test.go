package mesh

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// resultsEnv names the directory that long tests write what they measured to.
const resultsEnv = "TULLE_RESULTS"

// results is a table that a long test writes when it ends, and is asked to.
type results struct {
	mu   sync.Mutex // guards rows
	rows []string
}

// newResults has the table written at the end of t, as DATE-name.md.
func newResults(t *testing.T, name, title string) *results {
	r := &results{}
	dir := os.Getenv(resultsEnv)
	if dir == "" {
		return r
	}
	t.Cleanup(func() {
		ok(t, os.MkdirAll(dir, 0o755))
		ok(t, os.WriteFile(filepath.Join(dir, time.Now().Format(time.DateOnly)+"-"+name+".md"), []byte(r.markdown(title)), 0o644))
	})
	return r
}

func (r *results) rowf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rows = append(r.rows, fmt.Sprintf(format, args...))
}

func (r *results) markdown(title string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.Sort(r.rows)
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease") // elsewhere it stays unsaid
	var b strings.Builder
	fmt.Fprintf(&b, "# %s, %s\n\n", title, time.Now().Format(time.DateOnly))
	fmt.Fprintf(&b, "%d processors, %s %s, %s; `make test-stopped`. Two processes of tulle-proxy with mutual TLS between them; "+
		"clients and servers are net/http, grpc-go, coder/websocket and plain sockets. A body is right when its sha256 is. Resident is the most "+
		"that the process ever had (VmHWM), its program's pages included.\n\n", runtime.NumCPU(), runtime.GOOS, strings.TrimSpace(string(kernel)), runtime.Version())
	b.WriteString("| flow | at once | MiB each | stop s | right | took s | outbound resident MiB | inbound resident MiB |\n")
	b.WriteString("| --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for _, row := range r.rows {
		b.WriteString(row + "\n")
	}
	return b.String()
}
