package reflect

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	policyv1alpha1 "github.com/tulle-mesh/tulle/api/policy/v1alpha1"
	"github.com/tulle-mesh/tulle/controller/state"
	"github.com/tulle-mesh/tulle/controller/status"
)

// Config is what a Reflector is made of. Client and Store are needed, and Dynamic but with PodsOnly.
type Config struct {
	Client kubernetes.Interface
	// Dynamic reads the kinds that a cluster may not have.
	Dynamic dynamic.Interface
	Store   *state.Store
	// PodsOnly reads Namespaces and Pods alone: who there is, not whom to reach where.
	PodsOnly bool
	Reports  *status.Set // nil keeps them to itself
	// Batch is how long changes are gathered before they are applied at once; 0 is 20 ms.
	Batch time.Duration
	// AuditInterval is how often what is held is compared with a fresh list, give or take a fifth; 0 is
	// 15 min, negative never.
	AuditInterval time.Duration
	// AuditGrace is how long a watch may be behind a list; 0 is 10 s.
	AuditGrace time.Duration
	Registerer prometheus.Registerer // nil for none
	Log        *zap.Logger           // nil is silent
}

// Reflector keeps a Store equal to a cluster.
type Reflector struct {
	cfg     Config
	sources []source
	metrics *metrics
	wake    chan struct{} // holds a token while something is to be applied or told
	suspect chan []netip.AddrPort

	// zones are the nodes'; they belong to the writer.
	zones    map[string]string
	pods     *kind[corev1.Pod, state.Workload]
	external *kind[policyv1alpha1.ExternalWorkload, state.Workload] // nil with PodsOnly
}

// New returns a Reflector that does nothing before Run.
func New(cfg Config) *Reflector {
	def := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	def(&cfg.Batch, 20*time.Millisecond)
	def(&cfg.AuditInterval, 15*time.Minute)
	if cfg.AuditInterval < 0 {
		cfg.AuditInterval = 1 << 58
	}
	def(&cfg.AuditGrace, 10*time.Second)
	if cfg.Reports == nil {
		cfg.Reports = status.NewSet(nil)
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	r := &Reflector{
		cfg: cfg, wake: make(chan struct{}, 1), suspect: make(chan []netip.AddrPort, 1), zones: make(map[string]string),
	}
	r.metrics = newMetrics(cfg.Registerer, r)
	r.sources = r.kinds()
	return r
}

func (r *Reflector) poke() {
	select {
	case r.wake <- struct{}{}:
	default: // the writer has been told
	}
}

// Recheck asks for what concerns addresses that could not be reached to be compared with the API server
// soon. It does not block.
func (r *Reflector) Recheck(addrs []netip.AddrPort) {
	select {
	case r.suspect <- addrs:
	default: // one is due
	}
}

// Waiting says what must be read before anything is served; "" when nothing is.
func (r *Reflector) Waiting() string {
	var names []string
	for _, s := range r.sources {
		st := s.stand()
		switch {
		case st.read:
		case st.err != nil:
			names = append(names, fmt.Sprintf("%s (%v)", s, st.err))
		default:
			names = append(names, s.String())
		}
	}
	return strings.Join(names, ", ")
}

// Run keeps the store up to date until ctx ends.
func (r *Reflector) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, s := range r.sources {
		wg.Go(func() { s.run(ctx) }) // owned by Run, ends with ctx
	}
	wg.Go(func() { r.audits(ctx) }) // owned by Run, ends with ctx
	r.write(ctx)
	wg.Wait()
	return nil
}

// checkInterval is how often the whole state is looked through for what no object shows by itself.
const checkInterval = 10 * time.Second

// write applies what arrives. It is the only writer of the store.
func (r *Reflector) write(ctx context.Context) {
	check := time.NewTicker(checkInterval)
	defer check.Stop()
	var checked uint64
	for {
		select {
		case <-ctx.Done():
			return
		case <-check.C:
			if now := r.cfg.Store.Snapshot(); now.Version != checked {
				checked = now.Version
				r.cfg.Reports.Replace("check", told(status.Check(now)))
			}
			continue
		case <-r.wake:
		}
		if !sleep(ctx, r.cfg.Batch) {
			return
		}
		r.flush()
	}
}

// flush applies what is pending as one transaction.
func (r *Reflector) flush() {
	ready := true
	for _, s := range r.sources {
		ready = ready && s.stand().read // asked before what was read is applied
	}
	start := time.Now()
	r.cfg.Store.Apply(func(x *state.Tx) {
		for _, s := range r.sources {
			s.apply(x)
		}
	})
	r.metrics.batches.Observe(time.Since(start).Seconds())
	if ready {
		r.cfg.Store.MarkSynced()
	}
	var all []status.Report
	for _, s := range r.sources {
		all = append(all, s.reports()...)
		if s.stand().waiting > 0 {
			r.poke() // a zone or a name changed what came before
		}
	}
	r.cfg.Reports.Replace("kubernetes", all)
}

// told leaves out that Services have no endpoints: in a cluster that is everyday life.
func told(all []status.Report) []status.Report {
	var out []status.Report
	for _, r := range all {
		if r.Kind != "Service" || r.Severity != status.Notice {
			out = append(out, r)
		}
	}
	return out
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// about is d, give or take a fifth.
func about(d time.Duration) time.Duration { return d*4/5 + rand.N(d*2/5+1) }
