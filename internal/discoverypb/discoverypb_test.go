package discoverypb

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/tulle-mesh/tulle/api/discovery/v1"
	"github.com/tulle-mesh/tulle/internal/leak"
	"github.com/tulle-mesh/tulle/internal/mesh"
)

func TestMain(m *testing.M) { leak.Main(m) }

// overWire sends m through its encoding.
func overWire[M proto.Message](t *testing.T, m M) M {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	out := m.ProtoReflect().New().Interface().(M)
	if err := proto.Unmarshal(b, out); err != nil {
		t.Fatal(err)
	}
	return out
}

var equal = cmp.Options{
	cmpopts.EquateEmpty(),
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

func wantSame[T any](t *testing.T, want, got T, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%+v: %v", want, err)
	}
	if d := cmp.Diff(want, got, equal); d != "" {
		t.Fatalf("the wire changed it (-want +got):\n%s", d)
	}
}

func TestWhatMeshSaysSurvivesTheWire(t *testing.T) {
	g := gen{rand.New(rand.NewPCG(1, 2))}
	for range 2000 {
		target := g.target()
		gotTarget, err := DecodeTarget(overWire(t, EncodeTarget(target)))
		wantSame(t, target, gotTarget, err)

		e := g.endpoint()
		gotEndpoint, err := DecodeEndpoint(overWire(t, EncodeEndpoint(e)))
		wantSame(t, e, gotEndpoint, err)
		if e.Hash() != gotEndpoint.Hash() {
			t.Fatalf("%+v: the digest changed", e)
		}

		p := g.policy()
		gotPolicy, err := DecodePolicy(overWire(t, EncodePolicy(p)))
		wantSame(t, p, gotPolicy, err)

		in := g.inbound()
		gotInbound, err := DecodeInbound(overWire(t, EncodeInbound(in)))
		wantSame(t, in, gotInbound, err)
	}
}

// A field that is added to mesh and forgotten here stays zero in every generated value, or is lost.
func TestNoFieldOfMeshIsForgotten(t *testing.T) {
	g := gen{rand.New(rand.NewPCG(3, 4))}
	seen := map[string]bool{}
	for range 500 {
		e, err := DecodeEndpoint(EncodeEndpoint(g.endpoint()))
		must(t, err)
		p, err := DecodePolicy(EncodePolicy(g.policy()))
		must(t, err)
		in, err := DecodeInbound(EncodeInbound(g.inbound()))
		must(t, err)
		for _, v := range []any{e, *p, p.Retry, p.Timeouts, *in} {
			noteSet(reflect.ValueOf(v), seen)
		}
	}
	for _, v := range []any{mesh.Endpoint{}, mesh.TargetPolicy{}, mesh.Retry{}, mesh.Timeouts{}, mesh.InboundPolicy{}} {
		for f := range reflect.TypeOf(v).Fields() {
			if name := reflect.TypeOf(v).Name() + "." + f.Name; !seen[name] {
				t.Errorf("mesh.%s never crosses the wire", name)
			}
		}
	}
}

func noteSet(v reflect.Value, seen map[string]bool) {
	for f, val := range v.Fields() {
		if !val.IsZero() {
			seen[v.Type().Name()+"."+f.Name] = true
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestFieldsOfANewerPeerAreIgnored(t *testing.T) {
	e := gen{rand.New(rand.NewPCG(5, 6))}.endpoint()
	m := EncodeEndpoint(e)
	unknown := protowire.AppendString(protowire.AppendTag(nil, 900, protowire.BytesType), "from the future")
	m.ProtoReflect().SetUnknown(unknown)
	over := overWire(t, m)
	got, err := DecodeEndpoint(over)
	wantSame(t, e, got, err)
	if string(over.ProtoReflect().GetUnknown()) != string(unknown) {
		t.Error("the unknown field was not kept")
	}
}

func TestWhatMeshCannotSayIsRefused(t *testing.T) {
	addr := &pb.SocketAddress{Ip: []byte{10, 0, 0, 1}, Port: 80}
	plain := pb.NoTlsReason_NO_TLS_REASON_NOT_MESHED
	id := "spiffe://tulle.local/ns/shop/sa/web"
	endpoint := func(change func(*pb.Endpoint)) error {
		m := &pb.Endpoint{Address: addr, NoTlsReason: plain}
		change(m)
		_, err := DecodeEndpoint(m)
		return err
	}
	policy := func(m *pb.TargetPolicy) error { _, err := DecodePolicy(m); return err }
	inbound := func(m *pb.InboundPolicy) error { _, err := DecodeInbound(m); return err }
	target := func(m *pb.Target) error { _, err := DecodeTarget(m); return err }
	name := func(n string, port uint32) *pb.Target {
		return &pb.Target{Form: &pb.Target_Authority{Authority: &pb.Authority{Name: n, Port: port}}}
	}
	deny := pb.DefaultPolicy_DEFAULT_POLICY_DENY

	for _, tc := range []struct {
		name, want string
		err        error
	}{
		{"endpoint: no address", "0 bytes", endpoint(func(e *pb.Endpoint) { e.Address = nil })},
		{"endpoint: odd address", "5 bytes", endpoint(func(e *pb.Endpoint) { e.Address = &pb.SocketAddress{Ip: make([]byte, 5), Port: 1} })},
		{"endpoint: no port", "port 0", endpoint(func(e *pb.Endpoint) { e.Address = &pb.SocketAddress{Ip: []byte{10, 0, 0, 1}} })},
		{"endpoint: huge port", "port 65536", endpoint(func(e *pb.Endpoint) { e.Address = &pb.SocketAddress{Ip: []byte{10, 0, 0, 1}, Port: 65536} })},
		{"endpoint: bad identity", "want spiffe://", endpoint(func(e *pb.Endpoint) { e.Identity = "web"; e.NoTlsReason = 0 })},
		{"R5.6 endpoint: neither identity nor reason", "identity or a reason", endpoint(func(e *pb.Endpoint) { e.NoTlsReason = 0 })},
		{"endpoint: identity and reason", "identity or a reason", endpoint(func(e *pb.Endpoint) { e.Identity = id })},
		{"endpoint: unknown reason", "reason for no TLS 99", endpoint(func(e *pb.Endpoint) { e.NoTlsReason = 99 })},
		{"endpoint: unknown protocol", "protocol 99", endpoint(func(e *pb.Endpoint) { e.Protocol = 99 })},
		{"endpoint: unsorted zones", "sorted", endpoint(func(e *pb.Endpoint) { e.ForZones = []string{"b", "a"} })},
		{"endpoint: comma in a zone", "sorted", endpoint(func(e *pb.Endpoint) { e.ForZones = []string{"a,b"} })},

		{"target: nothing", "without a form", target(nil)},
		{"target: upper case", "lower-case", target(name("Web.shop", 80))},
		{"target: trailing dot", "lower-case", target(name("web.shop.", 80))},
		{"target: no name", "target", target(name("", 80))},
		{"target: an address as a name", "lower-case", target(name("10.0.0.1", 80))},
		{"target: no port", "port 0", target(name("web", 0))},

		{"policy: unknown kind", "kind 9", policy(&pb.TargetPolicy{Kind: 9})},
		{"policy: unknown balancing", "balancing 9", policy(&pb.TargetPolicy{Balancing: 9})},
		{"policy: unknown protocol", "protocol 9", policy(&pb.TargetPolicy{Protocol: 9})},
		{"policy: huge port", "65536", policy(&pb.TargetPolicy{Port: 65536})},
		{"policy: backend without target", "shop/split", policy(&pb.TargetPolicy{Routes: []*pb.Route{{Name: "shop/split", Backends: []*pb.Backend{{}}}}})},
		{"policy: odd status", "retry status", policy(&pb.TargetPolicy{Retry: &pb.Retry{Statuses: []uint32{600}}})},
		{"policy: odd code", "retry gRPC code", policy(&pb.TargetPolicy{Retry: &pb.Retry{GrpcCodes: []uint32{17}}})},
		{"policy: negative timeout", "negative", policy(&pb.TargetPolicy{Timeouts: &pb.Timeouts{Idle: durationpb.New(-time.Second)}})},
		{"policy: bad duration", "request timeout", policy(&pb.TargetPolicy{Timeouts: &pb.Timeouts{Request: &durationpb.Duration{Seconds: 1, Nanos: -1}}})},

		{"inbound: missing", "missing", inbound(nil)},
		{"inbound: no default", "default policy 0", inbound(&pb.InboundPolicy{})},
		{"inbound: port without default", "default policy 0", inbound(&pb.InboundPolicy{Default: deny, Ports: []*pb.PortPolicy{{Port: 1}}})},
		{"inbound: port twice", "sorted", inbound(&pb.InboundPolicy{Default: deny, Ports: []*pb.PortPolicy{{Port: 1, Default: deny}, {Port: 1, Default: deny}}})},
		{"inbound: network too long", "network", inbound(&pb.InboundPolicy{Default: deny, Cluster: &pb.Cluster{Networks: []*pb.Prefix{{Ip: []byte{10, 0, 0, 0}, Bits: 33}}}})},
		{"inbound: bits beyond the network", "beyond", inbound(&pb.InboundPolicy{Default: deny, Cluster: &pb.Cluster{Networks: []*pb.Prefix{{Ip: []byte{10, 0, 0, 1}, Bits: 8}}}})},
	} {
		if tc.err == nil || !strings.Contains(tc.err.Error(), tc.want) {
			t.Errorf("%s: got %v, want an error with %q", tc.name, tc.err, tc.want)
		}
	}
}

// FuzzDecode holds that whatever a peer sends is refused or has one meaning, which survives another
// crossing.
func FuzzDecode(f *testing.F) {
	g := gen{rand.New(rand.NewPCG(7, 8))}
	for range 4 {
		for kind, m := range []proto.Message{EncodeTarget(g.target()), EncodeEndpoint(g.endpoint()), EncodePolicy(g.policy()), EncodeInbound(g.inbound())} {
			b, err := proto.Marshal(m)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(byte(kind), b)
		}
	}
	f.Fuzz(func(t *testing.T, kind byte, b []byte) {
		switch kind % 4 {
		case 0:
			again(t, b, &pb.Target{}, DecodeTarget, EncodeTarget)
		case 1:
			again(t, b, &pb.Endpoint{}, DecodeEndpoint, EncodeEndpoint)
		case 2:
			again(t, b, &pb.TargetPolicy{}, DecodePolicy, EncodePolicy)
		case 3:
			again(t, b, &pb.InboundPolicy{}, DecodeInbound, EncodeInbound)
		}
	})
}

func again[M proto.Message, T any](t *testing.T, b []byte, m M, decode func(M) (T, error), encode func(T) M) {
	if proto.Unmarshal(b, m) != nil {
		return
	}
	v, err := decode(m)
	if err != nil {
		return
	}
	got, err := decode(overWire(t, encode(v)))
	wantSame(t, v, got, err)
}
