package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"google.golang.org/grpc"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
)

// serve answers each request with its id, after the work that it asks for, until ctx ends: then it
// takes nothing new and ends what it began.
func serve(ctx context.Context, gracefully bool) error {
	s := &server{journal: newJournal()}
	var one, two http.Protocols
	one.SetHTTP1(true)
	two.SetUnencryptedHTTP2(true)
	h1 := &http.Server{Addr: ":8080", Handler: s, Protocols: &one, ReadHeaderTimeout: time.Minute}
	h2 := &http.Server{Addr: ":8081", Handler: s, Protocols: &two, ReadHeaderTimeout: time.Minute}
	g := grpc.NewServer()
	pb.RegisterTestServiceServer(g, s)
	listener, err := net.Listen("tcp", ":9090")
	if err != nil {
		return err
	}
	ended := make(chan error, 3)
	go func() { ended <- h1.ListenAndServe() }() // all three end with the process, or below
	go func() { ended <- h2.ListenAndServe() }()
	go func() { ended <- g.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	if !gracefully {
		return nil
	}
	within, stop := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer stop()
	done := make(chan error, 2)
	go func() { done <- h1.Shutdown(within) }()
	go func() { done <- h2.Shutdown(within) }()
	g.GracefulStop()
	return errors.Join(<-done, <-done)
}

type server struct {
	pb.UnimplementedTestServiceServer
	journal *journal
}

func (s *server) got(id, work string) {
	s.journal.writef("got %s", id)
	n, _ := strconv.Atoi(work) // none is none
	time.Sleep(time.Duration(n) * time.Millisecond)
}

// ServeHTTP implements http.Handler. Probes have no id.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := r.Header.Get(idHeader)
	if id != "" {
		s.got(id, r.Header.Get(workHeader))
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		s.journal.writef("cut %s %v", id, err)
		return
	}
	_, _ = io.WriteString(w, id) // who is gone needs no answer
}

func first(md metadata.MD, name string) string {
	for _, v := range md.Get(name) {
		return v
	}
	return ""
}

// UnaryCall answers with the call's id.
func (s *server) UnaryCall(ctx context.Context, _ *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	id := first(md, idHeader)
	s.got(id, first(md, workHeader))
	return &pb.SimpleResponse{Username: id}, nil
}

// FullDuplexCall answers each message with the same.
func (s *server) FullDuplexCall(stream pb.TestService_FullDuplexCallServer) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	s.got(first(md, idHeader), "0")
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := stream.Send(&pb.StreamingOutputCallResponse{Payload: m.GetPayload()}); err != nil {
			return err
		}
	}
}
