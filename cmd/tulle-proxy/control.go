package main

import (
	"context"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/run"
	"github.com/tulle-mesh/tulle/internal/version"
	"github.com/tulle-mesh/tulle/proxy"
	"github.com/tulle-mesh/tulle/proxy/discover"
	"github.com/tulle-mesh/tulle/proxy/mtls"
)

// discovery is the client of the destination service as the data plane sees it.
// The two need each other: targets that the proxy asks for while it is built
// are passed on once the client is there.
type discovery struct {
	client *discover.Client
	early  []mesh.Target
}

// Subscribe implements proxy.Discovery.
func (d *discovery) Subscribe(t mesh.Target) {
	if d.client == nil {
		d.early = append(d.early, t)
		return
	}
	d.client.Subscribe(t)
}

// Unsubscribe implements proxy.Discovery.
func (d *discovery) Unsubscribe(t mesh.Target) { d.client.Unsubscribe(t) }

// Report implements proxy.Discovery.
func (d *discovery) Report(f discover.Failure) { d.client.Report(f) }

// Stats are counted by the client.
func (d *discovery) Stats() discover.Stats { return d.client.Stats() }

// start makes the client; no worker runs yet.
func (d *discovery) start(set *settings, creds *mtls.Credentials, p *proxy.Proxy, log *zap.Logger) {
	tls := credentials.NewTLS(mtls.ClientConfig(creds, set.destinationName, "h2"))
	w := &set.proxy.Workload
	d.client = discover.New(discover.Config{
		Server: set.destinationAddr, Namespace: w.Namespace, Name: w.Name, Version: version.Number(), Log: log,
		DialOptions: []grpc.DialOption{grpc.WithTransportCredentials(tls), grpc.WithNoProxy()},
	}, p)
	for _, t := range d.early {
		d.client.Subscribe(t)
	}
}

// after runs p once ready is closed.
func after(ready <-chan struct{}, p run.Part) run.Part {
	return run.Func(func(ctx context.Context) error {
		select {
		case <-ready:
			return p.Run(ctx)
		case <-ctx.Done():
			return nil
		}
	})
}
