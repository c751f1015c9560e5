package shop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/tulle-mesh/tulle/internal/shop/catalogpb"
)

// callTimeout bounds what one service waits for another.
const callTimeout = 10 * time.Second

// ServeWeb serves the shop's front on ln: GET /products lists the catalogue, GET /products/N asks
// for one product. catalogAddr is where the catalogue is dialled.
func (i *Instance) ServeWeb(ctx context.Context, ln net.Listener, catalogAddr string) error {
	// Without retries of its own: what is repeated is for the mesh to decide, and visible there.
	conn, err := grpc.NewClient("passthrough:///"+catalogAddr,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())
	if err != nil {
		return fmt.Errorf("catalog at %s: %w", catalogAddr, err)
	}
	defer conn.Close()
	w := web{catalogpb.NewCatalogClient(conn)}
	mux := http.NewServeMux()
	mux.Handle("GET /products", i.endpoint(w.list))
	mux.Handle("GET /products/{number}", i.endpoint(w.get))
	return i.serveHTTP(ctx, ln, mux)
}

type web struct {
	catalog catalogpb.CatalogClient
}

func (w web) get(r *http.Request) reply {
	n, err := strconv.ParseUint(r.PathValue("number"), 10, 32)
	if err != nil {
		return reply{status: http.StatusBadRequest, err: "a product has a number"}
	}
	return w.call(r, func(ctx context.Context, header grpc.CallOption) (any, error) {
		return w.catalog.GetProduct(ctx, &catalogpb.GetProductRequest{Number: uint32(n)}, header)
	})
}

func (w web) list(r *http.Request) reply {
	return w.call(r, func(ctx context.Context, header grpc.CallOption) (any, error) {
		stream, err := w.catalog.ListProducts(ctx, &catalogpb.ListProductsRequest{}, header)
		if err != nil {
			return nil, err
		}
		var all []*catalogpb.Product
		for {
			switch p, err := stream.Recv(); {
			case errors.Is(err, io.EOF):
				return all, nil
			case err != nil:
				return nil, err
			default:
				all = append(all, p)
			}
		}
	})
}

// call asks the catalogue and turns its result into an answer.
func (w web) call(r *http.Request, ask func(context.Context, grpc.CallOption) (any, error)) reply {
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	if id := r.Header.Get(RequestID); id != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, RequestID, id)
	}
	var header metadata.MD
	began := time.Now()
	body, err := ask(ctx, grpc.Header(&header))
	s := status.Convert(err)
	call := Call{
		Service: Catalog, Instance: first(header.Get(instanceMeta)), Status: s.Code().String(),
		OK: grpcOK(s.Code()), MS: Millis(time.Since(began)),
	}
	out := reply{calls: []Call{call}, body: body}
	switch s.Code() {
	case codes.OK:
	case codes.NotFound:
		out.status, out.err, out.body = http.StatusNotFound, s.Message(), nil
	default:
		out.status, out.err, out.body = http.StatusBadGateway, "catalog: "+s.Message(), nil
	}
	return out
}
