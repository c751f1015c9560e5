package controller

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/tulle-mesh/tulle/controller/files"
	"github.com/tulle-mesh/tulle/controller/state"
	"github.com/tulle-mesh/tulle/controller/status"
	"github.com/tulle-mesh/tulle/identity"
	"github.com/tulle-mesh/tulle/internal/mesh"
)

// Source feeds a Store.
type Source interface {
	// Run keeps the store up to date until ctx ends.
	Run(ctx context.Context) error
	// Recheck compares what is held of addresses with what the source says now. It does not block.
	Recheck(addrs []netip.AddrPort)
	// Waiting names what has to be read before anything is served; "" when it is not known or nothing.
	Waiting() string
}

// SourceConfig is what a Source is given.
type SourceConfig struct {
	Store   *state.Store
	Reports *status.Set
	// PodsOnly: nobody asks whom to reach where.
	PodsOnly   bool
	Registerer prometheus.Registerer
	Log        *zap.Logger
}

// Cluster is what a Plane has of Kubernetes, whose types it does not know. Whoever makes it has a client.
type Cluster struct {
	// Source reads the cluster.
	Source func(SourceConfig) Source
	// Tokens, Keep and Replicas are the identity service's.
	Tokens   identity.TokenValidator
	Keep     identity.Keep
	Replicas func(ReplicasConfig) identity.Replicas
}

// ReplicasConfig is what the replicas of an identity service need to know.
type ReplicasConfig struct {
	// Meshed counts the proxies that there should be.
	Meshed func() int
	// PEM is the trust bundle, Changed a channel that is closed when it is no more.
	PEM     func() []byte
	Changed func() <-chan struct{}
	// Namespaces are those that have meshed pods or ask for them; News has a value when they may differ.
	Namespaces func() map[string]bool
	News       <-chan struct{}
	Log        *zap.Logger
}

// fileSource is a directory as a Source.
type fileSource struct{ *files.Reflector }

// Recheck implements Source.
func (s fileSource) Recheck([]netip.AddrPort) { s.Rescan() }

// Waiting implements Source.
func (fileSource) Waiting() string { return "" }

// replicas are those of the identity service; nil where it is alone.
func (p *Plane) replicas(a *identity.Authority) identity.Replicas {
	if p.cfg.Cluster == nil {
		return nil
	}
	p.news = p.store.Watch()
	return p.cfg.Cluster.Replicas(ReplicasConfig{
		Meshed: p.meshed, PEM: a.BundlePEM, Namespaces: p.meshedNamespaces, News: p.news.Ready(), Log: p.log.Named("identity"),
		Changed: func() <-chan struct{} {
			_, changed := a.Trust()
			return changed
		},
	})
}

// meshed counts the workloads that follow the trust bundle: those whose proxies should be there.
func (p *Plane) meshed() int {
	n := 0
	for w := range p.store.Snapshot().Workloads() {
		if w.Proxied && !w.Terminating && len(w.Addrs) > 0 {
			n++
		}
	}
	return n
}

func (p *Plane) meshedNamespaces() map[string]bool {
	p.news.Take()
	names := make(map[string]bool)
	s := p.store.Snapshot()
	for n := range s.Namespaces() {
		if n.Inject {
			names[n.Name] = true
		}
	}
	for w := range s.Workloads() {
		if w.Proxied {
			names[w.Name.Namespace] = true
		}
	}
	return names
}

// admitWait is how long a workload may be known to the API server and not here: its token has just been
// accepted, and what watches tell comes a moment later.
const admitWait = 3 * time.Second

// admit refuses who has no workload in the source. Before the source has been read nobody knows, and
// the asker is told to come again; the control plane itself is always admitted.
func (p *Plane) admit() func(context.Context, mesh.Identity) error {
	if p.store == nil {
		return nil
	}
	return func(ctx context.Context, id mesh.Identity) error {
		if p.isOurs(id) {
			return nil
		}
		select {
		case <-p.store.Synced():
		case <-ctx.Done():
			return ctx.Err()
		}
		if p.known(id) || p.cfg.Cluster != nil && p.appears(ctx, id) {
			return nil
		}
		return fmt.Errorf("no workload in %s has the identity %s", p.cfg.Source, id)
	}
}

// isOurs reports whether an identity is the control plane's. In a cluster who is in its namespace is
// who may create pods there.
func (p *Plane) isOurs(id mesh.Identity) bool {
	if p.cfg.Cluster != nil {
		return id.TrustDomain() == p.cfg.Settings.TrustDomain && id.Namespace() == p.cfg.Namespace
	}
	return id == p.IdentityName() || id == p.DestinationName()
}

func (p *Plane) known(id mesh.Identity) bool {
	for range p.store.Snapshot().WorkloadsOf(id) {
		return true
	}
	return false
}

// appears waits for a workload.
func (p *Plane) appears(ctx context.Context, id mesh.Identity) bool {
	w := p.store.Watch()
	defer w.Close()
	end := time.NewTimer(admitWait)
	defer end.Stop()
	for !p.known(id) {
		select {
		case <-w.Ready():
			w.Take()
		case <-end.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
	return true
}
