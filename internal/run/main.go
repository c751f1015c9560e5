package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Streams are a command's connections with the world: main passes the process's own, a test
// passes buffers.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// Command is what a main package is but for its wiring. args are without the program's name.
type Command func(ctx context.Context, args []string, s Streams) error

// ExitError is an error that chooses the exit code of its process. Main prints nothing for one
// without a cause.
type ExitError struct {
	Code int
	Err  error
}

func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Err.Error()
}

func (e *ExitError) Unwrap() error { return e.Err }

// Main runs c with the process's arguments and streams and returns its exit code: 0, 1 for an
// error, or what an ExitError says. The first SIGINT or SIGTERM ends ctx; a second one ends the process.
//
//	func main() { os.Exit(run.Main(context.Background(), "tulle-proxy", command)) }
func Main(ctx context.Context, name string, c Command) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // the default action comes back for the second signal
	s := Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	return exitCode(name, c(ctx, os.Args[1:], s), s.Err)
}

// exitCode reports err to w and turns it into an exit code.
func exitCode(name string, err error, w io.Writer) int {
	code := 1
	switch e, chosen := errors.AsType[*ExitError](err); {
	case err == nil:
		return 0
	case chosen && e.Err == nil:
		return e.Code
	case chosen:
		code = e.Code
	}
	fmt.Fprintf(w, "%s: %v\n", name, err)
	return code
}
