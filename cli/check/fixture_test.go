package check

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	authv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
	discoveryfake "k8s.io/client-go/discovery/fake"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
	clienttesting "k8s.io/client-go/testing"

	"github.com/tulle-mesh/tulle/charts"
	"github.com/tulle-mesh/tulle/cli/cluster"
	"github.com/tulle-mesh/tulle/cli/manifest"
	"github.com/tulle-mesh/tulle/cli/mesh"
	"github.com/tulle-mesh/tulle/injector/config"
	"github.com/tulle-mesh/tulle/injector/inject"
)

// now is when the tests' clusters live.
var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// world is a cluster in which everything is well, for tests to break one thing of.
type world struct {
	t *testing.T

	version string
	groups  []string
	// denied are "verb group/resource" that you may not.
	denied map[string]bool
	// serverTime is what the API server says.
	serverTime time.Time
	// webhook answers for the API server's call of the injector.
	webhook func(*corev1.Pod) (*corev1.Pod, error)
	// metrics and streams are what proxies and destination say.
	metrics map[string]string // by namespace/pod
	streams string

	objects []*unstructured.Unstructured
}

// healthy is an installed mesh with a meshed shop.
func healthy(t *testing.T) *world {
	w := bare(t)
	w.install()
	w.shop()
	return w
}

// bare is a cluster of two nodes without Tulle.
func bare(t *testing.T) *world {
	t.Helper()
	w := &world{
		t: t, version: "v1.37.2", groups: []string{"gateway.networking.k8s.io/v1"}, denied: map[string]bool{},
		serverTime: now, metrics: map[string]string{}, streams: `{"streams": []}`,
	}
	w.webhook = func(p *corev1.Pod) (*corev1.Pod, error) {
		out, _, err := inject.Inject(corev1.PodTemplateSpec{ObjectMeta: p.ObjectMeta, Spec: p.Spec},
			inject.Params{Mesh: config.Default("tulle"), Namespace: inject.Namespace{Name: p.Namespace}})
		return &corev1.Pod{ObjectMeta: out.ObjectMeta, Spec: out.Spec}, err
	}
	for _, name := range []string{"default", "kube-system", "kube-node-lease"} {
		w.add(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelMetadataName: name}}})
	}
	for _, name := range []string{"node-1", "node-2"} {
		w.add(&corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Status: corev1.NodeStatus{
				Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
				Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("4Gi")},
				NodeInfo:    corev1.NodeSystemInfo{KernelVersion: "6.12.48+deb13-amd64", OperatingSystem: "linux", ContainerRuntimeVersion: "containerd://2.1.4"},
			},
		})
		at := metav1.NewMicroTime(now.Add(-5 * time.Second))
		w.add(&coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "kube-node-lease"}, Spec: coordinationv1.LeaseSpec{RenewTime: &at}})
	}
	w.dns()
	return w
}

// dns is the cluster's, on a port of its own choice.
func (w *world) dns() {
	udp, port := corev1.ProtocolUDP, int32(1053)
	w.add(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "coredns-1", Namespace: "kube-system", Labels: map[string]string{"k8s-app": "kube-dns"}},
		Spec:       corev1.PodSpec{NodeName: "node-1", Containers: []corev1.Container{{Name: "dns", Image: "dns"}}},
		Status:     running("10.0.0.53"),
	})
	w.add(&discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Name: "kube-dns-1", Namespace: "kube-system", Labels: map[string]string{discoveryv1.LabelServiceName: "kube-dns"}},
		Endpoints:  []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.53"}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: "coredns-1", Namespace: "kube-system"}}},
		Ports:      []discoveryv1.EndpointPort{{Port: &port, Protocol: &udp}},
	})
}

// rendered are the objects of the charts, which no test changes.
var rendered = sync.OnceValues(func() ([]unstructured.Unstructured, error) {
	var objects []unstructured.Unstructured
	for _, chart := range []string{charts.CRDs, charts.Tulle} {
		raw, err := manifest.Render(chart, "tulle", manifest.Wishes{}, manifest.Facts{})
		if err != nil {
			return nil, err
		}
		all, err := manifest.Parse(raw)
		if err != nil {
			return nil, err
		}
		objects = append(objects, all...)
	}
	return objects, nil
})

// install renders the charts into the cluster, with what the control plane makes for itself.
func (w *world) install() {
	all, err := rendered()
	w.must(err)
	for i := range all {
		w.objects = append(w.objects, all[i].DeepCopy())
	}
	for _, o := range w.objects {
		switch o.GetKind() {
		case "CustomResourceDefinition":
			w.must(unstructured.SetNestedSlice(o.Object, []any{map[string]any{"type": "Established", "status": "True"}}, "status", "conditions"))
		case "Deployment":
			for _, field := range []string{"readyReplicas", "updatedReplicas"} {
				w.must(unstructured.SetNestedField(o.Object, int64(1), "status", field))
			}
		}
	}
	w.set("Namespace", "", "tulle", "tulle", "metadata", "labels", corev1.LabelMetadataName)
	for i, name := range mesh.Deployments() {
		w.add(&corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name + "-1", Namespace: "tulle", Labels: map[string]string{"app.kubernetes.io/part-of": "tulle"}},
			Spec:       corev1.PodSpec{ServiceAccountName: name, NodeName: "node-1", Containers: []corev1.Container{{Name: "c", Image: "i"}}},
			Status:     running(fmt.Sprintf("10.0.0.%d", i+1)),
		})
		yes := true
		w.add(&discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Name: name + "-x", Namespace: "tulle", Labels: map[string]string{discoveryv1.LabelServiceName: name}},
			AddressType: discoveryv1.AddressTypeIPv4,
			Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{fmt.Sprintf("10.0.0.%d", i+1)}, Conditions: discoveryv1.EndpointConditions{Ready: &yes}}},
		})
	}
	w.certificates()
}

func (w *world) certificates() {
	root := authority(w.t, "root", nil, 365*24*time.Hour)
	issuer := authority(w.t, "issuer", root, 30*24*time.Hour)
	w.secret(mesh.RootSecret, root)
	w.secret(mesh.IssuerSecret, issuer)
	w.bundle("tulle", root)
	ca := authority(w.t, "injector-ca", nil, 365*24*time.Hour)
	w.secret(mesh.InjectorSecret, leaf(w.t, ca, "tulle-injector.tulle.svc"))
	w.caBundle(ca)
}

func (w *world) secret(name string, c *issued) {
	w.remove("Secret", "tulle", name)
	w.add(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "tulle", Labels: map[string]string{mesh.ManagedBy: mesh.Identity}},
		Type:       corev1.SecretTypeTLS, Data: map[string][]byte{"tls.crt": c.pem()},
	})
}

// given is an issuer of somebody else's, as cert-manager writes it: no other Secret holds the root.
func (w *world) given(root *issued, chain ...*issued) {
	w.remove("Secret", "tulle", mesh.RootSecret)
	w.remove("Secret", "tulle", mesh.IssuerSecret)
	var all []byte
	for _, c := range chain {
		all = append(all, c.pem()...)
	}
	w.add(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: mesh.IssuerSecret, Namespace: "tulle"}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{"tls.crt": all, "ca.crt": root.pem()},
	})
	w.bundle("tulle", root)
	w.bundle("shop", root)
}

func (w *world) bundle(namespace string, c *issued) {
	w.remove("ConfigMap", namespace, mesh.Bundle)
	w.add(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: mesh.Bundle, Namespace: namespace}, Data: map[string]string{mesh.BundleKey: string(c.pem())}})
}

func (w *world) caBundle(c *issued) {
	hook := w.get("MutatingWebhookConfiguration", "", mesh.Webhook)
	hooks, _, err := unstructured.NestedSlice(hook.Object, "webhooks")
	w.must(err)
	for _, h := range hooks {
		var text any
		if c != nil {
			text = base64.StdEncoding.EncodeToString(c.pem())
		}
		h.(map[string]any)["clientConfig"].(map[string]any)["caBundle"] = text
	}
	w.must(unstructured.SetNestedSlice(hook.Object, hooks, "webhooks"))
}

// shop is a meshed namespace with two pods of web, one of db, and what their proxies say.
func (w *world) shop() {
	on := map[string]string{inject.AnnotationInject: config.Enabled}
	labels := map[string]string{inject.AnnotationInject: config.Enabled, corev1.LabelMetadataName: "shop"}
	w.add(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Annotations: on, Labels: labels}})
	root := w.get("ConfigMap", "tulle", mesh.Bundle).DeepCopy()
	root.SetNamespace("shop")
	w.objects = append(w.objects, root)
	for _, name := range []string{"web-1", "web-2", "db-1"} {
		w.add(w.pod(name, true))
		w.metrics["shop/"+name] = wellMetrics
	}
}

// wellMetrics are a proxy's with which all is well.
const wellMetrics = `identity_cert_expiration_timestamp_seconds 1.7954e+09
identity_degraded 0
discovery_connected 1
discovery_digest_total 9
discovery_digest_mismatch_total 1
discovery_resync_total 1
proxy_detection_total{direction="inbound",port="8080",outcome="http1"} 7
`

// pod is one of shop's, as the injector would have it where meshed.
func (w *world) pod(name string, meshed bool) *corev1.Pod {
	app, _, _ := strings.Cut(name, "-")
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: "shop", Labels: map[string]string{"app": app, "pod-template-hash": "abc"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: app + "-abc", Controller: new(true)}},
		},
		Spec:   corev1.PodSpec{NodeName: "node-2", ServiceAccountName: app, Containers: []corev1.Container{{Name: app, Image: app}}},
		Status: running("10.0.1.1"),
	}
	if !meshed {
		return p
	}
	out, _, err := inject.Inject(corev1.PodTemplateSpec{ObjectMeta: p.ObjectMeta, Spec: p.Spec}, inject.Params{
		Mesh: config.Default("tulle"), Namespace: inject.Namespace{Name: "shop", Annotations: map[string]string{inject.AnnotationInject: config.Enabled}},
	})
	w.must(err)
	p.ObjectMeta, p.Spec = out.ObjectMeta, out.Spec
	p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: mesh.Proxy, Ready: true}}
	return p
}

func running(ip string) corev1.PodStatus {
	return corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}},
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
	}
}

// add puts a typed object into the cluster.
func (w *world) add(o runtime.Object) {
	w.t.Helper()
	kinds, _, err := scheme.Scheme.ObjectKinds(o)
	w.must(err)
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	w.must(err)
	u := &unstructured.Unstructured{Object: m}
	u.SetGroupVersionKind(kinds[0])
	w.objects = append(w.objects, u)
}

func (w *world) get(kind, namespace, name string) *unstructured.Unstructured {
	w.t.Helper()
	for _, o := range w.objects {
		if o.GetKind() == kind && o.GetNamespace() == namespace && o.GetName() == name {
			return o
		}
	}
	w.t.Fatalf("the test's cluster has no %s %s/%s", kind, namespace, name)
	return nil
}

// remove takes an object out, if it is there.
func (w *world) remove(kind, namespace, name string) {
	for i, o := range w.objects {
		if o.GetKind() == kind && o.GetNamespace() == namespace && o.GetName() == name {
			w.objects = append(w.objects[:i:i], w.objects[i+1:]...)
			return
		}
	}
}

// set sets a field of an object.
func (w *world) set(kind, namespace, name string, value any, path ...string) {
	w.t.Helper()
	w.must(unstructured.SetNestedField(w.get(kind, namespace, name).Object, value, path...))
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// env makes clients of the cluster.
func (w *world) env() *env {
	w.t.Helper()
	var typed, untyped []runtime.Object
	for _, o := range w.objects {
		untyped = append(untyped, o)
		into, err := scheme.Scheme.New(o.GroupVersionKind())
		if runtime.IsNotRegisteredError(err) || o.GetKind() == "CustomResourceDefinition" { // Helm registers it; the clientset has it not
			continue
		}
		w.must(err)
		w.must(runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, into))
		typed = append(typed, into)
	}
	kube := fake.NewClientset(typed...)
	disco, _ := kube.Discovery().(*discoveryfake.FakeDiscovery)
	var major, minor int
	_, err := fmt.Sscanf(w.version, "v%d.%d", &major, &minor)
	w.must(err)
	disco.FakedServerVersion = &version.Info{Major: fmt.Sprint(major), Minor: fmt.Sprint(minor), GitVersion: w.version}
	for _, g := range w.groups {
		disco.Resources = append(disco.Resources, &metav1.APIResourceList{GroupVersion: g})
	}
	kube.PrependReactor("create", "selfsubjectaccessreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		r := a.(clienttesting.CreateAction).GetObject().(*authv1.SelfSubjectAccessReview).DeepCopy()
		at := r.Spec.ResourceAttributes
		r.Status.Allowed = !w.denied[at.Verb+" "+at.Group+"/"+at.Resource]
		return true, r, nil
	})
	kube.PrependReactor("create", "pods", func(a clienttesting.Action) (bool, runtime.Object, error) {
		p, err := w.webhook(a.(clienttesting.CreateAction).GetObject().(*corev1.Pod))
		return true, p, err
	})
	dyn := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{}, untyped...)
	k := &cluster.Cluster{
		Kube: kube, Dynamic: dyn, Server: "https://cluster.test", Tulle: "tulle",
		Now: func() time.Time { return now }, Clock: func(context.Context) (time.Time, error) { return w.serverTime, nil },
		Dial: w.dial,
	}
	return &env{Cluster: k}
}

// dial connects with a pod's admin port.
func (w *world) dial(ctx context.Context, namespace, pod string, port int) (net.Conn, error) {
	var body string
	switch metrics, proxy := w.metrics[namespace+"/"+pod]; {
	case proxy && port == mesh.ProxyAdmin:
		body = metrics
	case namespace == "tulle" && port == mesh.ControllerAdmin:
		body = w.streams
	default:
		return nil, fmt.Errorf("connection refused")
	}
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, body) }))
	w.t.Cleanup(s.Close)
	return (&net.Dialer{}).DialContext(ctx, "tcp", s.Listener.Addr().String())
}

// issued is a certificate and its key.
type issued struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func (c *issued) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.cert.Raw})
}

func authority(t *testing.T, name string, by *issued, lifetime time.Duration) *issued {
	return sign(t, by, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(lifetime - time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
}

func leaf(t *testing.T, by *issued, name string) *issued {
	return sign(t, by, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(90 * 24 * time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
}

func sign(t *testing.T, by *issued, tmpl *x509.Certificate) *issued {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if by == nil {
		by = &issued{tmpl, key}
	}
	tmpl.SerialNumber = big.NewInt(1)
	raw, err := x509.CreateCertificate(rand.Reader, tmpl, by.cert, &key.PublicKey, by.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return &issued{cert, key}
}
