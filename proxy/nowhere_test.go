package proxy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/internal/mesh"
)

const askGRPC = "POST /shop.Catalog/Get HTTP/1.1\nHost: a\nContent-Type: application/grpc\nContent-Length: 0\n\n"

// R8.4: a name that the control plane knows nothing by leads nowhere: 404, or NOT_FOUND, once the wait
// for an endpoint is over (R6.5). What comes to be known meanwhile is served.
func TestANameThatNobodyHas(t *testing.T) {
	w := newWorld(t, shapeOut, func(k *knobs) { k.policy = mesh.TargetPolicy{Kind: mesh.TargetUnknown}; k.rows = []mesh.Endpoint{} })
	c := w.dial()
	c.send(get)
	c.nothing(900 * time.Millisecond)
	if h := c.headOf(); !strings.HasPrefix(h, "HTTP/1.1 404 Not Found\n") || !strings.Contains(h, "target catalog.shop:80: no route: ") {
		t.Errorf("%q", h)
	}
	c.send(askGRPC)
	if h := c.headOf(); !strings.HasPrefix(h, "HTTP/1.1 200 OK\n") || !strings.Contains(h, "\ngrpc-status: 5\n") {
		t.Errorf("%q", h)
	}
	c.send(get)
	w.outD.Set(target, &mesh.TargetPolicy{Kind: mesh.TargetService, Service: "catalog", Namespace: "shop", Port: 80}, mesh.Endpoint{Addr: appAddr})
	s := w.accept()
	s.expect(get)
	s.send(ok)
	c.expect(ok)
}

// R8.1: a route that matched and whose backend nobody knows is not that.
func TestABackendThatNobodyHas(t *testing.T) {
	nobody := mesh.NameTarget("catalog-v2.shop", 80)
	w := newWorld(t, shapeOut, func(k *knobs) {
		k.policy.Routes = []mesh.Route{{Name: "shop/split", Backends: []mesh.Backend{{Target: nobody, Weight: 1}}}}
	})
	w.outD.Set(nobody, &mesh.TargetPolicy{Kind: mesh.TargetUnknown})
	c := w.dial()
	c.send(get)
	if h := c.headOf(); !strings.HasPrefix(h, "HTTP/1.1 503 Service Unavailable\n") || !strings.Contains(h, "backend target catalog-v2.shop:80") {
		t.Errorf("%q", h)
	}
}
