package samples

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/tulle-mesh/tulle/controller/convert"
	"github.com/tulle-mesh/tulle/internal/shop"
	"github.com/tulle-mesh/tulle/internal/version"
)

// manifests decodes every file strictly: what Kubernetes does not know is an error.
func manifests(t *testing.T) []runtime.Object {
	t.Helper()
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, gatewayv1.Install} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	strict := serializer.NewCodecFactory(s, serializer.EnableStrict).UniversalDeserializer()
	names, err := fs.Glob(Shop, "shop/*.yaml")
	if err != nil || len(names) == 0 || names[0] != "shop/00-namespace.yaml" {
		t.Fatalf("files %v: kubectl apply -f DIR takes them in this order, and the namespace must be the first (%v)", names, err)
	}
	var all []runtime.Object
	for _, name := range names {
		data, err := fs.ReadFile(Shop, name)
		if err != nil {
			t.Fatal(err)
		}
		for d := yaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(data))); ; {
			doc := make([]byte, len(data))
			n, err := d.Read(doc)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			o, _, err := strict.Decode(doc[:n], nil, nil)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			all = append(all, o)
		}
	}
	return all
}

// of are the manifests of one type, by name.
func of[T interface {
	runtime.Object
	GetName() string
}](all []runtime.Object) map[string]T {
	out := map[string]T{}
	for _, o := range all {
		if one, ok := o.(T); ok {
			out[one.GetName()] = one
		}
	}
	return out
}

func TestEveryRoleOfTheShopIsThere(t *testing.T) {
	var roles []string
	for _, d := range of[*appsv1.Deployment](manifests(t)) {
		c := d.Spec.Template.Spec.Containers[0]
		roles = append(roles, c.Args[0])
		if want := "ghcr.io/tulle-mesh/tulle-shop:" + version.Number(); c.Image != want {
			t.Errorf("%s runs %s, want %s", d.Name, c.Image, want)
		}
	}
	slices.Sort(roles)
	want := []string{shop.Cart, shop.Catalog, shop.Feed, shop.Payments, shop.Payments, shop.Store, "traffic", shop.Web}
	if !slices.Equal(roles, want) {
		t.Errorf("roles %v, want %v", roles, want)
	}
}

func TestTheShopIsRestricted(t *testing.T) {
	checks, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	for name, d := range of[*appsv1.Deployment](manifests(t)) {
		for _, r := range checks.EvaluatePod(level, &d.Spec.Template.ObjectMeta, &d.Spec.Template.Spec) {
			if !r.Allowed {
				t.Errorf("%s: %s: %s", name, r.ForbiddenReason, r.ForbiddenDetail)
			}
		}
	}
}

// TestNamesFitTogether: accounts, selectors, ports, and the addresses that arguments dial.
func TestNamesFitTogether(t *testing.T) {
	all := manifests(t)
	deployments, services, accounts := of[*appsv1.Deployment](all), of[*corev1.Service](all), of[*corev1.ServiceAccount](all)
	for name, d := range deployments {
		if accounts[d.Spec.Template.Spec.ServiceAccountName] == nil {
			t.Errorf("Deployment %s: no ServiceAccount %s", name, d.Spec.Template.Spec.ServiceAccountName)
		}
		for _, arg := range d.Spec.Template.Spec.Containers[0].Args {
			host, port, dials := strings.Cut(arg, ".shop.svc.cluster.local:")
			if !dials {
				continue
			}
			_, host, _ = strings.Cut(host, "=")
			if s := services[host]; s == nil || fmt.Sprint(s.Spec.Ports[0].Port) != port {
				t.Errorf("Deployment %s dials %s, which no Service is", name, arg)
			}
		}
	}
	for name, s := range services {
		found := 0
		for _, d := range deployments {
			if !labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(d.Spec.Template.Labels)) {
				continue
			}
			found++
			ports := d.Spec.Template.Spec.Containers[0].Ports
			if !slices.ContainsFunc(ports, func(p corev1.ContainerPort) bool { return p.Name == s.Spec.Ports[0].TargetPort.StrVal }) {
				t.Errorf("Service %s: Deployment %s has no port %s", name, d.Name, s.Spec.Ports[0].TargetPort.StrVal)
			}
		}
		if found == 0 || found > 1 && name != "payments" {
			t.Errorf("Service %s selects %d Deployments", name, found)
		}
	}
	if len(deployments) != len(accounts) {
		t.Errorf("%d accounts for %d Deployments", len(accounts), len(deployments))
	}
}

// TestTheRouteIsOneThatTheMeshTakes: converted without a problem, to Services that are there.
func TestTheRouteIsOneThatTheMeshTakes(t *testing.T) {
	all := manifests(t)
	services := of[*corev1.Service](all)
	routes := of[*gatewayv1.HTTPRoute](all)
	if got := slices.Sorted(maps.Keys(routes)); !slices.Equal(got, []string{"payments"}) {
		t.Fatalf("routes %v", got)
	}
	r := routes["payments"]
	row, problems := convert.Route(r)
	if row == nil || len(problems) > 0 {
		t.Errorf("the route has problems: %v", problems)
	}
	for _, b := range r.Spec.Rules[0].BackendRefs {
		if services[string(b.Name)] == nil {
			t.Errorf("no Service %s", b.Name)
		}
	}
}
