// Command load is both ends of the traffic that the tests of restarts judge: a client that sends at its
// own pace, whatever became of what it sent before, and servers that differ in how they end. Each end
// writes a line per request, which the test compares id by id. It knows nothing of Tulle.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

const usage = `usage: load serve at-once|gracefully    end so at SIGTERM; HTTP/1 at 8080, HTTP/2 at 8081, gRPC at 9090
       load send -rate N URL...        a URL is h1://, h2:// or grpc:// and a host with its port`

// idHeader names a request, as a field and as metadata; workHeader is how many milliseconds it takes.
const (
	idHeader   = "x-request-id"
	workHeader = "x-work"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 2 && args[0] == "serve" && args[1] == "at-once":
		context.AfterFunc(ctx, func() { os.Exit(0) })
		return serve(ctx, false)
	case len(args) == 2 && args[0] == "serve" && args[1] == "gracefully":
		return serve(ctx, true)
	case len(args) > 0 && args[0] == "send":
		flags := flag.NewFlagSet("send", flag.ContinueOnError)
		rate := flags.Int("rate", 200, "requests a second")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return send(ctx, *rate, flags.Args())
	}
	return errors.New(usage)
}

// journal writes whole lines, each at once: what was written before the process ends is kept.
type journal struct {
	mu  sync.Mutex // guards out
	out *bufio.Writer
}

func newJournal() *journal { return &journal{out: bufio.NewWriter(os.Stdout)} }

func (j *journal) writef(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	fmt.Fprintf(j.out, format+"\n", args...)
	_ = j.out.Flush() // nobody to tell, where standard output is gone
}
