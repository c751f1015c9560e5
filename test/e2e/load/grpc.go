package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
)

// grpcClient asks on one connection, once.
type grpcClient struct{ service pb.TestServiceClient }

func newGRPC(addr string) (*grpcClient, error) {
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDisableRetry(), grpc.WithStatsHandler(attempts{}))
	if err != nil {
		return nil, err
	}
	return &grpcClient{pb.NewTestServiceClient(conn)}, nil
}

// attempts counts how often a call's header leaves: gRPC repeats calls, unseen, that it holds for
// unprocessed.
type attempts struct{}

type attemptsKey struct{}

func (attempts) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (attempts) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (attempts) HandleConn(context.Context, stats.ConnStats)                       {}

func (attempts) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if _, out := s.(*stats.OutHeader); !out {
		return
	}
	if n, ok := ctx.Value(attemptsKey{}).(*atomic.Int32); ok {
		n.Add(1)
	}
}

// once calls with what every call brings, and fails when it left more than once.
func once(ctx context.Context, id, work string, call func(context.Context) error) error {
	var n atomic.Int32
	ctx = context.WithValue(ctx, attemptsKey{}, &n)
	if err := call(metadata.AppendToOutgoingContext(ctx, idHeader, id, workHeader, work)); err != nil {
		return err
	}
	if n.Load() > 1 {
		return fmt.Errorf("asked %d times", n.Load())
	}
	return nil
}

func (g *grpcClient) unary(ctx context.Context, id, work string) error {
	return once(ctx, id, work, func(ctx context.Context) error {
		r, err := g.service.UnaryCall(ctx, &pb.SimpleRequest{Payload: &pb.Payload{Body: []byte(id)}})
		if err == nil && r.GetUsername() != id {
			err = fmt.Errorf("the answer is %.80q", r.GetUsername())
		}
		return err
	})
}

// stream sends four messages, a twentieth of a second apart, and wants each back before the next.
func (g *grpcClient) stream(ctx context.Context, id, work string) error {
	return once(ctx, id, work, func(ctx context.Context) error {
		s, err := g.service.FullDuplexCall(ctx)
		if err != nil {
			return err
		}
		for n := range 4 {
			body := fmt.Appendf(nil, "%s/%d", id, n)
			if err := s.Send(&pb.StreamingOutputCallRequest{Payload: &pb.Payload{Body: body}}); err != nil {
				_, err = s.Recv() // why it cannot be sent
				return fmt.Errorf("message %d: %w", n, err)
			}
			switch m, err := s.Recv(); {
			case err != nil:
				return fmt.Errorf("message %d: %w", n, err)
			case !bytes.Equal(m.GetPayload().GetBody(), body):
				return fmt.Errorf("message %d: the answer is %.80q", n, m.GetPayload().GetBody())
			}
			time.Sleep(50 * time.Millisecond)
		}
		if err := s.CloseSend(); err != nil {
			return err
		}
		if m, err := s.Recv(); !errors.Is(err, io.EOF) {
			return fmt.Errorf("in place of the end: %v, %v", m, err) //nolint:errorlint // there may be none
		}
		return nil
	})
}
