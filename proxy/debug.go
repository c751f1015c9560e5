package proxy

import (
	"context"

	"github.com/tulle-mesh/tulle/internal/held"
	"github.com/tulle-mesh/tulle/proxy/balance"
	"github.com/tulle-mesh/tulle/proxy/policy"
)

// TargetInfo is a target as /debug/targets shows it.
type TargetInfo struct {
	Target    string `json:"target"`
	Name      string `json:"name"`
	Resolved  bool   `json:"resolved"`
	Version   uint64 `json:"version"`
	Protocol  string `json:"protocol,omitempty"`
	Endpoints int    `json:"endpoints"`
	Available int    `json:"available"`
	Waiting   int    `json:"waiting"`
	Users     int    `json:"users"`
	Why       string `json:"why,omitempty"`
	Worker    int    `json:"worker"`
}

// PolicyInfo is the inbound policy as /debug/policies shows it.
type PolicyInfo struct {
	Received    bool              `json:"received"`
	Default     string            `json:"default"`
	Ports       map[uint16]string `json:"ports,omitempty"`
	TrustDomain string            `json:"trustDomain"`
	Terminating bool              `json:"terminating"`
}

// Targets implements admin.Debug.
func (p *Proxy) Targets(ctx context.Context) (any, error) {
	return gather(ctx, p, func(i int, s *shard) []TargetInfo {
		var out []TargetInfo
		for _, t := range s.targetList {
			out = append(out, t.info(i))
		}
		return out
	})
}

func (t *target) info(worker int) TargetInfo {
	now := t.s.now()
	n := TargetInfo{
		Target: t.key.String(), Name: t.name(), Resolved: t.resolved(), Version: t.version, Endpoints: t.bal.Len(),
		Available: t.bal.Available(now), Waiting: len(t.waiting) + len(t.conns), Users: t.users, Worker: worker,
	}
	if t.policy != nil {
		n.Protocol = t.policy.Protocol.String()
	}
	if n.Available < n.Endpoints || n.Endpoints == 0 {
		n.Why = t.whyNone()
	}
	return n
}

// Endpoints implements admin.Debug.
func (p *Proxy) Endpoints(ctx context.Context) (any, error) {
	return gather(ctx, p, func(i int, s *shard) []held.Endpoint {
		var out []held.Endpoint
		now := s.now()
		for _, t := range s.targetList {
			t.bal.Each(func(e *balance.Endpoint) {
				out = append(out, held.Endpoint{
					Target: t.key.String(), Addr: e.Addr.String(), Identity: string(e.Identity), NoTLS: e.NoTLS.String(),
					Pod: e.Pod, Zone: e.Zone, Weight: e.Weight, Load: e.Load(), Worker: i,
					EstimateMs: float64(e.Estimate(now).Microseconds()) / 1000, Ejected: e.Ejected(), Terminating: e.Terminating,
				})
			})
		}
		return out
	})
}

// Policies implements admin.Debug.
func (p *Proxy) Policies(context.Context) (any, error) {
	in := p.inbound.Load()
	if in == nil {
		return PolicyInfo{}, nil
	}
	n := PolicyInfo{
		Received: true, Default: in.Default.String(), TrustDomain: in.TrustDomain, Terminating: in.Terminating,
		Ports: map[uint16]string{},
	}
	for _, port := range in.Ports {
		n.Ports[port.Port] = policy.DefaultOf(in, port.Port).String()
	}
	return n, nil
}

// gather asks every worker and joins the answers.
func gather[T any](ctx context.Context, p *Proxy, ask func(i int, s *shard) []T) ([]T, error) {
	got := make(chan []T, len(p.shards))
	asked := 0
	for i, s := range p.shards {
		if s.w.Post(func() { got <- ask(i, s) }) {
			asked++
		}
	}
	all := []T{}
	for range asked {
		select {
		case l := <-got:
			all = append(all, l...)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return all, nil
}
