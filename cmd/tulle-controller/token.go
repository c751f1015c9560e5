package main

import (
	"errors"
	"flag"
	"fmt"
	"strings"

	"github.com/tulle-mesh/tulle/identity"
	"github.com/tulle-mesh/tulle/internal/run"
)

// token makes a join token with the key that the identity service checks them by, and prints it.
func token(args []string, s run.Streams) error {
	f := flag.NewFlagSet("tulle-controller token", flag.ContinueOnError)
	dir := f.String("state-dir", "", "the identity service's state directory; required")
	domain := f.String("trust-domain", "cluster.local", "domain of every identity")
	workload := f.String("workload", "", "who the token is for: namespace/name; required")
	account := f.String("account", "default", "its service account")
	lifetime := f.Duration("lifetime", 0, "how long the token may be used (default 1h)")
	if err := parse(f, args, s); err != nil {
		return err
	}
	ns, name, ok := strings.Cut(*workload, "/")
	if !ok || ns == "" || name == "" || *dir == "" {
		return mistake(errors.New("token wants --state-dir and --workload namespace/name"))
	}
	minter, err := identity.OpenMinter(*dir, *domain, nil)
	if err != nil {
		return err
	}
	t, err := minter.Mint(identity.Join{Namespace: ns, Name: name, Account: *account, Lifetime: *lifetime})
	if err != nil {
		return mistake(err)
	}
	_, err = fmt.Fprintln(s.Out, t)
	return err
}
