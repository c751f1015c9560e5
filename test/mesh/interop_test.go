package mesh

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/orca"
)

// interopEnv makes this test's binary the client of grpc-go's interoperability tests: the name of a
// case and an address. Their way to fail is to end the process.
const interopEnv = "TULLE_MESH_INTEROP"

// interopCases are those of google.golang.org/grpc/interop/client that need no credentials of a cloud.
// Two are left out: orca_oob wants reports each second, which grpc-go allows to a server of its own
// package alone, and pick_first_unary several servers behind one name.
func interopCases() []string {
	return []string{
		"empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream",
		"timeout_on_sleeping_server", "cancel_after_begin", "cancel_after_first_response",
		"status_code_and_message", "special_status_message", "custom_metadata", "unimplemented_method",
		"unimplemented_service", "orca_per_rpc", "rpc_soak", "channel_soak",
	}
}

// TestGRPCInterop: R4.7. Between grpc-go's interoperability client and server stand both proxies.
func TestGRPCInterop(t *testing.T) {
	w := newWorld(t, worldConfig{mode: binaries, slots: 1})
	dial := serveInterop(t, w)
	for _, name := range interopCases() {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(limited(t), os.Args[0]) //nolint:gosec // this test's own binary
			cmd.Env = append(os.Environ(), interopEnv+"="+name+" "+dial, "GRPC_GO_LOG_SEVERITY_LEVEL=error")
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// serveInterop is google.golang.org/grpc/interop/server.
func serveInterop(t *testing.T, w *world) string {
	dial, l := w.listen(t)
	rec := orca.NewServerMetricsRecorder()
	srv := grpc.NewServer(orca.CallMetricsServerOption(nil))
	pb.RegisterTestServiceServer(srv, interop.NewTestServer(interop.NewTestServerOptions{MetricsRecorder: rec}))
	var all sync.WaitGroup
	all.Go(func() { _ = srv.Serve(l) }) // ended by Stop
	t.Cleanup(func() { srv.Stop(); all.Wait() })
	return dial
}

// interopMain runs one case; it ends the process when that fails.
func interopMain(what string) int {
	name, addr, _ := strings.Cut(what, " ")
	opts := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy()}
	if name == "orca_per_rpc" {
		opts = append(opts, grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"test_backend_metrics_load_balancer":{}}]}`))
	}
	dial := func() *grpc.ClientConn {
		c, err := grpc.NewClient("passthrough:///"+addr, opts...)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return c
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*long)
	defer cancel()
	conn := dial()
	defer conn.Close()
	run, found := interopRuns(conn, dial)[name]
	if !found {
		fmt.Fprintln(os.Stderr, "no such case:", name)
		return 1
	}
	run(ctx)
	return 0
}

// interopRuns are the cases by name, as google.golang.org/grpc/interop/client has them.
func interopRuns(conn *grpc.ClientConn, dial func() *grpc.ClientConn) map[string]func(context.Context) {
	c := pb.NewTestServiceClient(conn)
	plain := func(f func(context.Context, pb.TestServiceClient, ...grpc.CallOption)) func(context.Context) {
		return func(ctx context.Context) { f(ctx, c) }
	}
	soak := func(channel func() (*grpc.ClientConn, func())) func(context.Context) {
		return func(ctx context.Context) {
			interop.DoSoakTest(ctx, interop.SoakTestConfig{
				RequestSize: 271828, ResponseSize: 314159, NumWorkers: 2, Iterations: 20,
				PerIterationMaxAcceptableLatency: 2 * long, OverallTimeout: 2 * long, ChannelForTest: channel,
			})
		}
	}
	return map[string]func(context.Context){
		"empty_unary": plain(interop.DoEmptyUnaryCall), "large_unary": plain(interop.DoLargeUnaryCall),
		"client_streaming": plain(interop.DoClientStreaming), "server_streaming": plain(interop.DoServerStreaming),
		"ping_pong": plain(interop.DoPingPong), "empty_stream": plain(interop.DoEmptyStream),
		"timeout_on_sleeping_server": plain(interop.DoTimeoutOnSleepingServer),
		"cancel_after_begin":         plain(interop.DoCancelAfterBegin), "cancel_after_first_response": plain(interop.DoCancelAfterFirstResponse),
		"status_code_and_message": plain(interop.DoStatusCodeAndMessage), "special_status_message": plain(interop.DoSpecialStatusMessage),
		"custom_metadata":       plain(interop.DoCustomMetadata),
		"unimplemented_method":  func(ctx context.Context) { interop.DoUnimplementedMethod(ctx, conn) },
		"unimplemented_service": func(ctx context.Context) { interop.DoUnimplementedService(ctx, pb.NewUnimplementedServiceClient(conn)) },
		"orca_per_rpc":          func(ctx context.Context) { interop.DoORCAPerRPCTest(ctx, c) },
		"rpc_soak":              soak(func() (*grpc.ClientConn, func()) { return conn, func() {} }),
		"channel_soak": soak(func() (*grpc.ClientConn, func()) {
			one := dial()
			return one, func() { one.Close() }
		}),
	}
}
