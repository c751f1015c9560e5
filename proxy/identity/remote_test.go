package identity

import (
	"io"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/tulle-mesh/tulle/api/identity/v1"
	"github.com/tulle-mesh/tulle/internal/certify"
)

// refusedStream is a stream that the service ended before it read anything: gRPC answers io.EOF to a
// Send then, and the reason to Recv.
type refusedStream struct {
	grpc.ClientStream
}

func (refusedStream) Send(*pb.WatchTrustRequest) error { return io.EOF }

func (refusedStream) Recv() (*pb.WatchTrustResponse, error) {
	return nil, status.Error(codes.Unauthenticated, "client certificate: none")
}

func TestAWatchRefusedBeforeItsHelloKnowsWhy(t *testing.T) {
	err := watch(refusedStream{}, certify.Watch{})
	if status.Code(err) != codes.Unauthenticated {
		t.Errorf("the watch ended with %v, want the refusal", err)
	}
}
