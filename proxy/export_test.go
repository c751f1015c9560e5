package proxy

import "github.com/tulle-mesh/tulle/proxy/metrics"

// Counts are the workers' metrics between two turns of a simulation, where nobody else runs.
func (p *Proxy) Counts() (all []*metrics.Snapshot) {
	for _, s := range p.shards {
		all = append(all, s.snapshot())
	}
	return all
}

// Counted is what the first worker counts for the proxy as a whole, gauges included.
func (p *Proxy) Counted() metrics.Proxy {
	p.shards[0].snapshot()
	return p.shards[0].store.Proxy
}
