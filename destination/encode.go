package destination

import (
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/tulle-mesh/tulle/api/discovery/v1"
	"github.com/tulle-mesh/tulle/controller/state"
	"github.com/tulle-mesh/tulle/internal/discoverypb"
	"github.com/tulle-mesh/tulle/internal/mesh"
)

// encoder makes messages. What all streams share of a TargetUpdate, which is all but its subject, is
// encoded once.
type encoder struct {
	metrics *metrics

	mu     sync.Mutex // guards bodies and the use times in them
	bodies map[bodyKey]*body
}

type bodyKey struct {
	table     state.Key
	version   uint64
	base      uint64
	namespace string // of clients with a policy of their own, else empty
}

type body struct {
	once sync.Once
	wire []byte
	used time.Time
}

// bodyLife is how long an encoding is kept without use.
const bodyLife = 10 * time.Second

func newEncoder(m *metrics) *encoder {
	return &encoder{metrics: m, bodies: make(map[bodyKey]*body)}
}

// target makes the message of a plan for a target.
func (e *encoder) target(p plan, clientNamespace string, now time.Time) *pb.SyncResponse {
	if p.table == nil {
		return &pb.SyncResponse{Message: &pb.SyncResponse_Unresolved{Unresolved: &pb.Unresolved{
			Subject: p.subject, Version: p.version,
			Reason: "neither a Service nor a workload has this name or address",
		}}}
	}
	k := bodyKey{table: p.table.Key, version: p.version, base: p.base}
	if p.table.HasConsumer(clientNamespace) {
		k.namespace = clientNamespace
	}
	b := e.body(k, now)
	b.once.Do(func() { b.wire = encodeBody(p, clientNamespace); e.metrics.encodings.Inc() })
	// The fields of a message may come in any order and from anywhere: the shared ones are appended as
	// bytes that this process need not understand.
	u := &pb.TargetUpdate{Subject: p.subject}
	u.ProtoReflect().SetUnknown(b.wire)
	return &pb.SyncResponse{Message: &pb.SyncResponse_Target{Target: u}}
}

func (e *encoder) body(k bodyKey, now time.Time) *body {
	e.mu.Lock()
	defer e.mu.Unlock()
	b := e.bodies[k]
	if b == nil {
		b = &body{}
		e.bodies[k] = b
	}
	b.used = now
	return b
}

// sweep forgets what was not used for a while.
func (e *encoder) sweep(now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for k, b := range e.bodies {
		if now.Sub(b.used) > bodyLife {
			delete(e.bodies, k)
		}
	}
}

// encodeBody encodes a TargetUpdate without its subject.
func encodeBody(p plan, clientNamespace string) []byte {
	u := &pb.TargetUpdate{Version: p.version, Base: p.base, Full: p.base == 0}
	policy := p.table.Policy(clientNamespace)
	if u.Full {
		u.Added = make([]*pb.Endpoint, 0, p.table.Len())
		for row := range p.table.Endpoints() {
			u.Added = append(u.Added, discoverypb.EncodeEndpoint(*row))
		}
		u.Policy = discoverypb.EncodePolicy(policy)
	} else {
		for _, row := range p.delta.Added {
			u.Added = append(u.Added, discoverypb.EncodeEndpoint(*row))
		}
		u.Removed = discoverypb.EncodeAddrs(p.delta.Removed)
		if p.delta.Policy {
			u.Policy = discoverypb.EncodePolicy(policy)
		}
	}
	wire, err := proto.Marshal(u)
	if err != nil {
		panic(fmt.Sprintf("BUG: encoding %s at %d: %v", p.table.Key, p.version, err))
	}
	return wire
}

func encodeInbound(version uint64, p *mesh.InboundPolicy) *pb.SyncResponse {
	return &pb.SyncResponse{Message: &pb.SyncResponse_Inbound{Inbound: &pb.InboundPolicyUpdate{
		Version: version, Policy: discoverypb.EncodeInbound(p),
	}}}
}

func encodeDigest(d digest) *pb.SyncResponse {
	return &pb.SyncResponse{Message: &pb.SyncResponse_Digest{Digest: &pb.Digest{
		Subject: d.subject, Version: d.version, Digest: d.value, Endpoints: uint32(d.endpoints),
	}}}
}

func encodeRefusal(r refusal) *pb.SyncResponse {
	m := &pb.Refusal{Subject: r.subject, Code: r.code, Reason: r.reason}
	if r.retry > 0 {
		m.RetryAfter = durationpb.New(r.retry)
	}
	return &pb.SyncResponse{Message: &pb.SyncResponse_Refusal{Refusal: m}}
}

// hello is the server's; w is the stream's workload, nil when it is not known.
func (s *Server) hello(w *state.Workload) *pb.SyncResponse {
	settings := s.cfg.Store.Settings()
	h := &pb.ServerHello{
		Features: []pb.Feature{
			pb.Feature_FEATURE_DELTA, pb.Feature_FEATURE_DIGEST_1, pb.Feature_FEATURE_REPORT, pb.Feature_FEATURE_RESUME,
		},
		ServerVersion: s.cfg.Version, Replica: s.cfg.Replica, Epoch: s.cfg.Epoch,
		Cluster: discoverypb.EncodeCluster(discoverypb.Cluster{
			TrustDomain: settings.TrustDomain, Networks: settings.ClusterNetworks,
		}),
	}
	if s.cfg.MaxAge > 0 {
		h.MaxStreamAge = durationpb.New(s.cfg.MaxAge)
	}
	if s.cfg.DigestInterval > 0 {
		h.DigestInterval = durationpb.New(s.cfg.DigestInterval)
	}
	if w != nil {
		h.Zone, h.Node = w.Zone, w.Node
	}
	return &pb.SyncResponse{Message: &pb.SyncResponse_Hello{Hello: h}}
}
