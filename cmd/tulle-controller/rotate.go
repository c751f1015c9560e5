package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/tulle-mesh/tulle/identity"
	identitykube "github.com/tulle-mesh/tulle/identity/kube"
	"github.com/tulle-mesh/tulle/internal/run"
)

// rotate asks the identity service for a new root.
func rotate(ctx context.Context, args []string, s run.Streams) error {
	f := flag.NewFlagSet("tulle-controller rotate", flag.ContinueOnError)
	dir := f.String("state-dir", "", "the identity service's state directory")
	source := f.String("source", "", `"kubernetes": the authority is in Secrets of --namespace`)
	var c cluster
	c.flags(f)
	if err := parse(f, args, s); err != nil {
		return err
	}
	var err error
	switch {
	case (*dir != "") == (*source == "kubernetes"):
		return mistake(errors.New("rotate wants --state-dir, or --source kubernetes"))
	case *dir != "":
		err = identity.AskForRoot(*dir)
	default:
		_, client, cerr := c.client()
		if cerr != nil {
			return mistake(cerr)
		}
		err = identitykube.AskForRoot(ctx, client, c.namespace, time.Now())
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(s.Out, "A new root is asked for. It joins the trust bundle within a minute, and signs once every proxy has\n"+
		"acknowledged it; the old one leaves when the last certificate below it has expired.\n"+
		"The metrics identity_trust_roots and identity_trust_watchers tell how far it is.")
	return err
}
