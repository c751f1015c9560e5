package diagnostics

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/tulle-mesh/tulle/cli/cluster"
	"github.com/tulle-mesh/tulle/cli/console"
	"github.com/tulle-mesh/tulle/cli/mesh"
	"github.com/tulle-mesh/tulle/internal/leak"
	"github.com/tulle-mesh/tulle/internal/run"
)

func TestMain(m *testing.M) { leak.Main(m) }

const state = `version 7
table shop/web:80: web.shop:80 http, route split to 1 web-v2.shop:80
	called web.shop:80, web.shop.svc.cluster.local:80, 10.96.0.1:80
	for clients of admin: web.shop:80 opaque
	10.0.0.1:8080 http spiffe://cluster.local/ns/shop/sa/web zone=a deployment=web pod=web-1
	10.0.0.2:8080 http plaintext: not_meshed pod=web-2 terminating
table shop/db:5432: db.shop:5432 opaque
	called db.shop:5432
inbound shop/web-1: all-authenticated, 8080 deny http
`

func TestStateIsRead(t *testing.T) {
	v := parseState([]byte(state))
	if len(v.targets) != 2 || v.inbound["shop/web-1"] != "all-authenticated, 8080 deny http" {
		t.Fatalf("got %+v", v)
	}
	for _, authority := range []string{"shop/web:80", "web.shop:80", "web.shop.svc.cluster.local:80", "10.96.0.1:80"} {
		got := v.find(authority)
		want := &target{
			Name: "shop/web:80", Policy: "web.shop:80 http, route split to 1 web-v2.shop:80",
			Called:  []string{"web.shop:80", "web.shop.svc.cluster.local:80", "10.96.0.1:80"},
			Clients: []string{"admin: web.shop:80 opaque"},
			Endpoints: []endpoint{
				{Address: "10.0.0.1:8080", Protocol: "http", Identity: "spiffe://cluster.local/ns/shop/sa/web", Labels: map[string]string{"zone": "a", "deployment": "web", "pod": "web-1"}},
				{Address: "10.0.0.2:8080", Protocol: "http", NoTLS: "not_meshed", Labels: map[string]string{"pod": "web-2"}, Terminating: true},
			},
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", authority, got, want)
		}
	}
	if near := nearTargets(v, "web.other:80"); near != "web.shop:80" {
		t.Errorf("proposed %q", near)
	}
}

func FuzzParseState(f *testing.F) {
	f.Add([]byte(state))
	f.Fuzz(func(t *testing.T, in []byte) {
		v := parseState(in)
		for i := range v.targets {
			if !bytes.Contains(in, []byte(v.targets[i].Name)) {
				t.Errorf("made up %q", v.targets[i].Name)
			}
		}
	})
}

func TestSecretsAreTakenOut(t *testing.T) {
	const token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW0ifQ.c2lnbmF0dXJl"
	for in, want := range map[string]string{
		"Authorization: Bearer " + token:                                            "Authorization: Bearer REDACTED",
		"token " + token + " refused":                                               "token REDACTED refused",
		"dial postgres://shop:hunter2@db/shop":                                      "dial postgres://REDACTED@db/shop",
		"-----BEGIN EC PRIVATE KEY-----\nMHcC\n-----END EC PRIVATE KEY-----\nafter": "REDACTED\nafter",
		`{"password":"hunter2","user":"shop"}`:                                      `{"password":REDACTED,"user":"shop"}`,
		"DB_PASSWORD=hunter2 next":                                                  "DB_PASSWORD=REDACTED next",
		"GET /charge?card=4111111111111111 200":                                     "GET /charge?REDACTED 200",
		"--token-file=/var/run/secrets/tulle/token/token":                           "--token-file=/var/run/secrets/tulle/token/token",
		"it is spiffe://cluster.local/ns/shop/sa/web at 10.0.0.1:8080 (7ms)":        "it is spiffe://cluster.local/ns/shop/sa/web at 10.0.0.1:8080 (7ms)",
	} {
		if got := redactText(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
	o := &unstructured.Unstructured{Object: map[string]any{
		"kind": "Pod", "metadata": map[string]any{"managedFields": []any{}, "annotations": map[string]any{
			"kubectl.kubernetes.io/last-applied-configuration": "{}", "acme.com/api-key": "k", "tulle.dev/inject": "enabled",
		}},
		"spec": map[string]any{
			"volumes":         []any{map[string]any{"name": "v", "secret": map[string]any{"secretName": "tls"}}},
			"sessionAffinity": "None",
			"containers": []any{map[string]any{"name": "c", "env": []any{
				map[string]any{"name": "GREETING", "value": "an application's own"}, map[string]any{"name": "TULLE_LOG_LEVEL", "value": "info"},
			}}},
		},
	}}
	redactObject(o)
	want := map[string]any{
		"kind": "Pod", "metadata": map[string]any{"annotations": map[string]any{"acme.com/api-key": redacted, "tulle.dev/inject": "enabled"}},
		"spec": map[string]any{
			"volumes":         []any{map[string]any{"name": "v", "secret": map[string]any{"secretName": "tls"}}},
			"sessionAffinity": "None",
			"containers": []any{map[string]any{"name": "c", "env": []any{
				map[string]any{"name": "GREETING", "value": redacted}, map[string]any{"name": "TULLE_LOG_LEVEL", "value": "info"},
			}}},
		},
	}
	if !reflect.DeepEqual(o.Object, want) {
		t.Errorf("got %v", o.Object)
	}
}

// small is a cluster with a control plane and a meshed pod, whose admin ports answer with their path.
func small(t *testing.T) *cluster.Cluster {
	t.Helper()
	ready := []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	pod := func(ns, name, account, container string) *corev1.Pod {
		return &corev1.Pod{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
			ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, Labels: map[string]string{mesh.ProxyLabel: "true", "app": "web"}},
			Spec:       corev1.PodSpec{ServiceAccountName: account, Containers: []corev1.Container{{Name: container, Image: "x:0.1.0"}}},
			Status:     corev1.PodStatus{Phase: corev1.PodRunning, Conditions: ready},
		}
	}
	control, meshed := pod("tulle", "tulle-destination-1", mesh.Destination, "destination"), pod("shop", "web-1", "web", mesh.Proxy)
	secrets := func(ns string) *corev1.Secret {
		return &corev1.Secret{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "own"},
			Data: map[string][]byte{"key": []byte("hunter2")},
		}
	}
	lists := map[schema.GroupVersionResource]string{}
	for _, gvr := range slices.Concat(clusterWide, namespaced) {
		if gvr.Group != "" { // the scheme knows the core's
			lists[gvr] = gvr.Resource + "List"
		}
	}
	s := runtime.NewScheme()
	if err := corev1.AddToScheme(s); err != nil {
		t.Fatal(err)
	}
	door := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/debug/state" {
			io.WriteString(w, state) // the client left
			return
		}
		io.WriteString(w, `"`+r.Method+" "+r.URL.Path+`"`) // the client left
	}))
	t.Cleanup(door.Close)
	return &cluster.Cluster{
		Kube:    fake.NewClientset(control, meshed, secrets("tulle"), secrets("shop")),
		Dynamic: dynamicfake.NewSimpleDynamicClientWithCustomListKinds(s, lists, control, meshed, secrets("tulle"), secrets("shop")),
		Tulle:   "tulle", Namespace: "shop", Server: "https://cluster.test", Now: func() time.Time { return time.Unix(0, 0) },
		Dial: func(ctx context.Context, _, pod string, port int) (net.Conn, error) {
			if pod == "web-1" && port != mesh.ProxyAdmin || pod != "web-1" && port != mesh.ControllerAdmin {
				return nil, errors.New("connection refused")
			}
			return (&net.Dialer{}).DialContext(ctx, "tcp", door.Listener.Addr().String())
		},
	}
}

func TestTheBundleHoldsNoSecrets(t *testing.T) {
	var out, errs bytes.Buffer
	b := &bundle{k: small(t), con: console.New(run.Streams{Out: &out, Err: &errs}, func(string) string { return "" }), shop: "shop", at: time.Unix(0, 0)}
	if err := b.write(t.Context(), "-"); err != nil {
		t.Fatal(err)
	}
	zip, err := gzip.NewReader(&out)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for r := tar.NewReader(zip); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimPrefix(h.Name, "tulle-bundle/")] = string(text)
	}
	t.Logf("missing: %s", files["missing.txt"])
	for name, want := range map[string]string{
		"tulle/secrets.yaml": "key: REDACTED", "tulle/pods.yaml": "tulle-destination-1", "shop/pods.yaml": "web-1",
		"tulle/pods/tulle-destination-1/state.txt": "table shop/web:80", "shop/pods/web-1/policies.txt": "GET /debug/policies",
		"shop/pods/web-1/tulle-proxy.log": "fake logs", "shop/secrets.yaml": "", "missing.txt": "",
	} {
		if text, ok := files[name]; !ok || !strings.Contains(text, want) {
			t.Errorf("%s: %q, want %q", name, text, want)
		}
	}
	if all := strings.Join(slices.Collect(func(yield func(string) bool) {
		for _, text := range files {
			if !yield(text) {
				return
			}
		}
	}), "\n"); strings.Contains(all, "hunter2") || strings.Contains(all, "aHVudGVyMg") {
		t.Error("the bundle holds a secret")
	}
	if files["shop/secrets.yaml"] != "" {
		t.Error("the bundle names other people's Secrets")
	}
}

func TestTheStateDumpIsUnderstood(t *testing.T) {
	// Addresses of IPv6 have colons and brackets; the parser must not cut there.
	v := parseState([]byte("table a/b:1: b.a:1 detect\n\tcalled [fd00::1]:1\n\t[fd00::2]:8080 detect spiffe://x/ns/a/sa/b\n"))
	got := v.find("[fd00::1]:1")
	if got == nil || len(got.Endpoints) != 1 {
		t.Fatalf("got %+v", got)
	}
	if _, err := netip.ParseAddrPort(got.Endpoints[0].Address); err != nil {
		t.Error(err)
	}
}
