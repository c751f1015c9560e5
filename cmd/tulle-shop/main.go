// Tulle-shop is the sample application: one program for every service of a small shop and for the
// traffic that it gets.
//
//	tulle-shop catalog --listen 127.0.0.1:9001 --name catalog-2 --latency 20ms
//	tulle-shop web --listen 127.0.0.1:8001 --catalog 127.0.0.1:9001
//	tulle-shop traffic --web 127.0.0.1:8001 --web-rate 50 --duration 30s
//
// Each flag has an environment variable: --web-rate is SHOP_WEB_RATE. A service prints one JSON line
// that tells where it listens; traffic prints its summary as JSON when it ends.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/tulle-mesh/tulle/internal/run"
	"github.com/tulle-mesh/tulle/internal/shop"
	"github.com/tulle-mesh/tulle/internal/version"
)

func main() { os.Exit(run.Main(context.Background(), "tulle-shop", command)) }

const usage = "tulle-shop web|catalog|cart|store|payments|feed|traffic|version [flags]; tulle-shop ROLE -h lists a role's flags"

func command(ctx context.Context, args []string, s run.Streams) error {
	if len(args) == 0 {
		return &run.ExitError{Code: 2, Err: errors.New(usage)}
	}
	role, args := args[0], args[1:]
	switch role {
	case "version":
		fmt.Fprintln(s.Out, version.String())
		return nil
	case "traffic":
		return generate(ctx, args, s)
	case shop.Web, shop.Catalog, shop.Cart, shop.Store, shop.Payments, shop.Feed:
		return serve(ctx, role, args, s)
	}
	return &run.ExitError{Code: 2, Err: fmt.Errorf("%q is no role: %s", role, usage)}
}

// parse reads args into f, and the environment for what they leave out.
func parse(f *flag.FlagSet, args []string, s run.Streams) error {
	f.SetOutput(s.Err)
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return &run.ExitError{}
	case err != nil:
		return &run.ExitError{Code: 2} // f has said why
	case f.NArg() > 0:
		return &run.ExitError{Code: 2, Err: fmt.Errorf("%q is no flag", f.Arg(0))}
	}
	given := map[string]bool{}
	f.Visit(func(one *flag.Flag) { given[one.Name] = true })
	var err error
	f.VisitAll(func(one *flag.Flag) {
		name := "SHOP_" + strings.ToUpper(strings.ReplaceAll(one.Name, "-", "_"))
		if v, ok := os.LookupEnv(name); ok && !given[one.Name] && err == nil {
			if e := one.Value.Set(v); e != nil {
				err = &run.ExitError{Code: 2, Err: fmt.Errorf("%s=%q: %w", name, v, e)}
			}
		}
	})
	return err
}

// openLog opens the file of a --log flag for appending; "-" is standard output, "" no log.
func openLog(name string, s run.Streams) (w io.Writer, done func(), err error) {
	switch name {
	case "":
		return nil, func() {}, nil
	case "-":
		return s.Out, func() {}, nil
	}
	file, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, nil, err
	}
	return file, func() { file.Close() }, nil
}

// control adds the control endpoint on addr to g and returns where it listens; "" is none.
func control(ctx context.Context, addr string, c shop.Control, g *run.Group) (string, error) {
	if addr == "" {
		return "", nil
	}
	ln, err := shop.ListenControl(ctx, addr)
	if err != nil {
		return "", err
	}
	g.Add("control", run.Func(func(ctx context.Context) error { return c.Serve(ctx, ln) }))
	return ln.Addr().String(), nil
}

func listen(ctx context.Context, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp", addr)
}

// tell prints v as one JSON line, for whoever started the process.
func tell(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }
