package demo

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/tulle-mesh/tulle/internal/shop"
)

const (
	namespace   = "shop"
	trustDomain = "cluster.local"
	generator   = "traffic"
)

// spec is one instance of the shop: an application process and its proxy.
type spec struct {
	name    string // of the workload, and of the instance for the shop
	role    string // of tulle-shop
	service string // whose endpoint it is
	latency time.Duration
	fail    float64
	// upstreams are what it calls: flags of tulle-shop and the targets that stand behind them.
	upstreams []upstream
}

type upstream struct{ flag, target string }

// service is a Service of the shop.
type service struct {
	name     string
	port     int
	protocol string // appProtocol, empty to detect
	// note says what travels, for the table.
	note string
	// backends make it the parent of a route.
	backends []backend
}

type backend struct {
	name   string
	weight int
}

// services of the shop, in the order of the table. The store declares nothing: that it speaks first
// is for the proxies to find out.
func services() []service {
	return []service{
		{name: shop.Web, port: 80, protocol: "http", note: "HTTP/1"},
		{name: shop.Catalog, port: 80, protocol: "grpc", note: "gRPC"},
		{name: shop.Cart, port: 80, note: "HTTP/1"},
		{name: shop.Store, port: 4000, note: "TCP"},
		{name: shop.Payments, port: 80, note: "HTTP/1", backends: []backend{{"payments-v1", 80}, {"payments-v2", 20}}},
		{name: "payments-v1", port: 80, note: "80 %"},
		{name: "payments-v2", port: 80, note: "20 %"},
		{name: shop.Feed, port: 80, note: "WebSocket"},
	}
}

// instances of the shop; callers come after what they call.
func instances(cfg Config) []spec {
	slow := 5 * quick
	if cfg.Scenario != "" {
		slow = quick // a script says who is slow, and when
	}
	return []spec{
		catalog(1, quick),
		catalog(2, slow), // of unlike speed
		{name: "store-1", role: shop.Store, service: shop.Store, latency: time.Millisecond},
		{name: "payments-v1-1", role: shop.Payments, service: "payments-v1", latency: 3 * time.Millisecond},
		{name: "payments-v2-1", role: shop.Payments, service: "payments-v2", latency: 2 * time.Millisecond, fail: 0.1},
		{name: "feed-1", role: shop.Feed, service: shop.Feed},
		{name: "web-1", role: shop.Web, service: shop.Web, upstreams: []upstream{{"catalog", "catalog.shop:80"}}},
		{name: "cart-1", role: shop.Cart, service: shop.Cart, upstreams: []upstream{{"store", "store.shop:4000"}}},
	}
}

// quick is how long a healthy catalogue takes. Ten times as long must stand out on a machine that has
// more to do, where an answer of no work may come late.
const quick = 20 * time.Millisecond

func catalog(n int, latency time.Duration) spec {
	return spec{name: fmt.Sprintf("catalog-%d", n), role: shop.Catalog, service: shop.Catalog, latency: latency}
}

// trafficSpec is the generator, which is in the mesh like everybody.
func trafficSpec() spec {
	return spec{name: generator, role: generator, upstreams: []upstream{
		{"web", "web.shop:80"}, {"cart", "cart.shop:80"}, {"payments", "payments.shop:80"}, {"feed", "feed.shop:80"},
	}}
}

// account is the service account of an instance: one per Service.
func (s spec) account() string { return cmp.Or(s.service, s.name) }

// meshYAML is what does not depend on any instance.
func meshYAML(noMTLS bool) string {
	var b strings.Builder
	policy := "all-authenticated"
	if noMTLS {
		policy = "all-unauthenticated"
	}
	fmt.Fprintf(&b, "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: %s\n  annotations:\n    config.tulle.dev/default-inbound-policy: %s\n",
		namespace, policy)
	for _, s := range services() {
		s.yaml(&b)
	}
	return b.String()
}

func (s service) yaml(b *strings.Builder) {
	fmt.Fprintf(b, "---\napiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: %s}\nspec:\n", s.name, namespace)
	if s.backends == nil {
		fmt.Fprintf(b, "  selector: {app: %s, ready: \"yes\"}\n", s.name)
	}
	fmt.Fprintf(b, "  ports:\n  - port: %d\n    targetPort: main\n", s.port)
	if s.protocol != "" {
		fmt.Fprintf(b, "    appProtocol: %s\n", s.protocol)
	}
	if s.backends == nil {
		return
	}
	fmt.Fprintf(b, `---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %s, namespace: %s}
spec:
  parentRefs:
  - {group: "", kind: Service, name: %s, port: %d}
  rules:
  - backendRefs:
`, s.name, namespace, s.name, s.port)
	for _, r := range s.backends {
		fmt.Fprintf(b, "    - {name: %s, port: 80, weight: %d}\n", r.name, r.weight)
	}
}

// workloadYAML is an instance. As a pod, it is an endpoint only once it is ready.
func workloadYAML(s spec, inbound int, ready bool) string {
	word := "no"
	if ready {
		word = "yes"
	}
	return fmt.Sprintf(`apiVersion: policy.tulle.dev/v1alpha1
kind: ExternalWorkload
metadata:
  name: %s
  namespace: %s
  labels: {app: %s, ready: %q}
spec:
  addresses: [127.0.0.1]
  serviceAccount: %s
  ports:
  - {name: main, port: %d}
`, s.name, namespace, s.account(), word, s.account(), inbound)
}
