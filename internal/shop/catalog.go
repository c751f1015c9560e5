package shop

import (
	"context"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/tulle-mesh/tulle/internal/shop/catalogpb"
)

// Products is the number of products in the catalogue; their numbers are 1 to Products.
const Products = 12

func product(number uint32) *catalogpb.Product {
	names := [Products]string{
		"veil", "tutu", "petticoat", "curtain", "ribbon", "canopy", "bonnet", "sash", "fichu", "train", "flounce", "bow",
	}
	return &catalogpb.Product{Number: number, Name: names[number-1], Cents: 995 + 250*number}
}

// ServeCatalog serves the gRPC catalogue on ln until ctx ends, and after that what is open.
func (i *Instance) ServeCatalog(ctx context.Context, ln net.Listener) error {
	s := grpc.NewServer()
	catalogpb.RegisterCatalogServer(s, catalog{instance: i})
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ln) }() // ends with the stop below
	select {
	case err := <-ended:
		return err
	case <-i.stopping(ctx):
	}
	kill := time.AfterFunc(stopWithin, s.Stop)
	defer kill.Stop()
	s.GracefulStop()
	return <-ended
}

type catalog struct {
	catalogpb.UnimplementedCatalogServer
	instance *Instance
}

func (c catalog) GetProduct(ctx context.Context, req *catalogpb.GetProductRequest) (p *catalogpb.Product, err error) {
	err = c.call(ctx, func() error {
		if n := req.GetNumber(); n < 1 || n > Products {
			return status.Errorf(codes.NotFound, "product %d: the catalogue has 1 to %d", n, Products)
		}
		p = product(req.GetNumber())
		return nil
	})
	return p, err
}

func (c catalog) ListProducts(_ *catalogpb.ListProductsRequest, stream grpc.ServerStreamingServer[catalogpb.Product]) error {
	return c.call(stream.Context(), func() error {
		for n := range uint32(Products) {
			if err := stream.Send(product(n + 1)); err != nil {
				return err
			}
		}
		return nil
	})
}

// call tells the client which instance answers, does as the settings say, and logs the result.
func (c catalog) call(ctx context.Context, answer func() error) error {
	began := time.Now()
	_ = grpc.SetHeader(ctx, metadata.Pairs(instanceMeta, c.instance.name))
	fail, err := c.instance.work(ctx)
	switch {
	case err != nil:
		return status.FromContextError(err).Err()
	case fail:
		err = status.Error(codes.Internal, "fails on purpose")
	default:
		err = answer()
	}
	md, _ := metadata.FromIncomingContext(ctx)
	s := status.Convert(err)
	c.instance.done(Record{
		Time: began.UnixMilli(), ID: first(md.Get(RequestID)), Status: s.Code().String(), OK: grpcOK(s.Code()),
		MS: Millis(time.Since(began)), Error: s.Message(),
	})
	return err
}

// grpcOK reports whether code is an answer and no failure.
func grpcOK(code codes.Code) bool { return code == codes.OK || code == codes.NotFound }

func first(s []string) string {
	if len(s) == 0 {
		return ""
	}
	return s[0]
}
