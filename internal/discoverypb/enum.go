package discoverypb

import (
	"fmt"

	pb "github.com/tulle-mesh/tulle/api/discovery/v1"
	"github.com/tulle-mesh/tulle/internal/mesh"
)

// The tables are in the order of mesh's constants.
var (
	protocols = [...]pb.Protocol{
		mesh.ProtocolDetect: pb.Protocol_PROTOCOL_UNSPECIFIED,
		mesh.ProtocolHTTP:   pb.Protocol_PROTOCOL_HTTP,
		mesh.ProtocolHTTP1:  pb.Protocol_PROTOCOL_HTTP1,
		mesh.ProtocolHTTP2:  pb.Protocol_PROTOCOL_HTTP2,
		mesh.ProtocolGRPC:   pb.Protocol_PROTOCOL_GRPC,
		mesh.ProtocolTLS:    pb.Protocol_PROTOCOL_TLS,
		mesh.ProtocolOpaque: pb.Protocol_PROTOCOL_OPAQUE,
	}
	noTLSReasons = [...]pb.NoTlsReason{
		mesh.NoTLSNone:       pb.NoTlsReason_NO_TLS_REASON_UNSPECIFIED,
		mesh.NoTLSNotMeshed:  pb.NoTlsReason_NO_TLS_REASON_NOT_MESHED,
		mesh.NoTLSSkipped:    pb.NoTlsReason_NO_TLS_REASON_PORT_SKIPPED,
		mesh.NoTLSLoopback:   pb.NoTlsReason_NO_TLS_REASON_LOOPBACK,
		mesh.NoTLSUnresolved: pb.NoTlsReason_NO_TLS_REASON_NOT_RESOLVED,
		mesh.NoTLSDisabled:   pb.NoTlsReason_NO_TLS_REASON_DISABLED,
	}
	kinds = [...]pb.TargetKind{
		mesh.TargetUnknown: pb.TargetKind_TARGET_KIND_UNSPECIFIED,
		mesh.TargetService: pb.TargetKind_TARGET_KIND_SERVICE,
		mesh.TargetPod:     pb.TargetKind_TARGET_KIND_POD,
	}
	balancings = [...]pb.Balancing{
		mesh.BalanceEWMA:          pb.Balancing_BALANCING_UNSPECIFIED,
		mesh.BalanceRoundRobin:    pb.Balancing_BALANCING_ROUND_ROBIN,
		mesh.BalanceLeastRequests: pb.Balancing_BALANCING_LEAST_REQUESTS,
		mesh.BalanceRandom:        pb.Balancing_BALANCING_RANDOM,
		mesh.BalanceSource:        pb.Balancing_BALANCING_SOURCE,
	}
	defaults = [...]pb.DefaultPolicy{
		mesh.DefaultAllUnauthenticated:   pb.DefaultPolicy_DEFAULT_POLICY_ALL_UNAUTHENTICATED,
		mesh.DefaultAllAuthenticated:     pb.DefaultPolicy_DEFAULT_POLICY_ALL_AUTHENTICATED,
		mesh.DefaultClusterAuthenticated: pb.DefaultPolicy_DEFAULT_POLICY_CLUSTER_AUTHENTICATED,
		mesh.DefaultDeny:                 pb.DefaultPolicy_DEFAULT_POLICY_DENY,
		mesh.DefaultAudit:                pb.DefaultPolicy_DEFAULT_POLICY_AUDIT,
	}
)

// decodeEnum finds v in table. An index of table is a constant of mesh.
func decodeEnum[P ~int32, M ~uint8](table []P, v P, what string) (M, error) {
	for i, p := range table {
		if p == v {
			return M(i), nil
		}
	}
	return 0, fmt.Errorf("%s %d is not known to this version", what, v)
}
