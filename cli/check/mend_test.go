package check

import (
	"io"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tulle-mesh/tulle/cli/console"
	"github.com/tulle-mesh/tulle/cli/mesh"
	"github.com/tulle-mesh/tulle/internal/run"
)

func scaledTo0(names ...string) func(w *world) {
	return func(w *world) {
		for _, name := range names {
			w.set("Deployment", "tulle", name, int64(0), "spec", "replicas")
			w.remove("Pod", "tulle", name+"-1")
			w.remove("EndpointSlice", "tulle", name+"-x")
		}
	}
}

func all(do ...func(w *world)) func(w *world) {
	return func(w *world) {
		for _, f := range do {
			f(w)
		}
	}
}

// What is to be tried is what mends this fault, not what would mend another one of the same check.
func TestTheHintIsForWhatWasFound(t *testing.T) {
	garbage := func(secret string) func(w *world) {
		return func(w *world) { w.set("Secret", "tulle", secret, "AAAA", "data", "tls.crt") }
	}
	config := func(key, text string) func(w *world) {
		return func(w *world) { w.set("ConfigMap", "tulle", mesh.Config, text, "data", key) }
	}
	selector := func(w *world) {
		w.set("Service", "tulle", mesh.Injector, "nobody", "spec", "selector", "app.kubernetes.io/name")
	}
	unready := func(w *world) { w.set("Deployment", "tulle", mesh.Identity, int64(0), "status", "readyReplicas") }
	crashes := func(w *world) {
		unready(w)
		w.set("Pod", "tulle", mesh.Identity+"-1", []any{map[string]any{"type": "Ready", "status": "False"}}, "status", "conditions")
		w.set("Pod", "tulle", mesh.Identity+"-1", []any{map[string]any{
			"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": int64(2), "state": map[string]any{"running": map[string]any{}},
		}}, "status", "containerStatuses")
	}
	noPods := func(why string) func(w *world) {
		return all(unready, func(w *world) {
			w.remove("Pod", "tulle", mesh.Identity+"-1")
			w.set("Deployment", "tulle", mesh.Identity, []any{
				map[string]any{"type": string(appsv1.DeploymentReplicaFailure), "status": "True", "message": why},
			}, "status", "conditions")
		})
	}
	given := func(w *world) {
		root := authority(w.t, "root", nil, 720*time.Hour)
		w.given(root, authority(w.t, "issuer", root, 61*time.Minute))
	}
	identityIsOff := "tulle upgrade | kubectl apply -f -: deployment tulle/tulle-identity is scaled to 0"
	for _, c := range []struct {
		anchor, name string
		do           func(w *world)
		problem, try string
	}{
		{"config", "none", func(w *world) { w.remove("ConfigMap", "tulle", mesh.Config) }, "does not exist", "tulle install | kubectl apply -f -, with the flags"},
		{"config", "values", config(mesh.ConfigKey, "proxy: {logLevel: loud}"), "logLevel", "tulle upgrade | kubectl apply -f -; where that refuses a value: tulle upgrade --reset-values"},
		{"config", "wishes", config("wishes.yaml", "profiles: {"), "wishes.yaml", "tulle upgrade --reset-values | kubectl apply -f -"},
		{"objects", "an account", func(w *world) { w.remove("ServiceAccount", "tulle", mesh.Identity) }, "serviceaccount/tulle-identity in tulle does not exist", "tulle upgrade | kubectl apply -f -; kubectl -n tulle rollout restart deploy/tulle-identity"},
		{"control-plane", "scaled to 0", scaledTo0(mesh.Destination), "is scaled to 0", "tulle upgrade | kubectl apply -f -"},
		{"control-plane", "missing", func(w *world) { w.remove("Deployment", "tulle", mesh.Destination) }, "does not exist", "tulle upgrade | kubectl apply -f -"},
		{"control-plane", "not ready", crashes, "pod tulle/tulle-identity-1 is not ready", "kubectl -n tulle logs tulle-identity-1"},
		{"control-plane", "two things", all(crashes, scaledTo0(mesh.Injector)), "is scaled to 0", "kubectl -n tulle logs tulle-identity-1; tulle upgrade | kubectl apply -f -"},
		{"control-plane", "an update that does not come to its end", func(w *world) {
			w.set("Deployment", "tulle", mesh.Identity, int64(2), "status", "replicas")
		}, "deployment tulle/tulle-identity is being updated: 1 of its pods are old", "kubectl -n tulle"},
		{"control-plane", "no room", noPods(`pods "x" is forbidden: exceeded quota: q`), "its pods are not created: pods \"x\" is forbidden", "raise the quota that is named"},
		{"control-plane", "not admitted", noPods("violates PodSecurity"), "its pods are not created: violates", "kubectl -n tulle describe deployment tulle-identity"},
		{"services", "a key of somebody else's", selector, "service tulle/tulle-injector selects pods by app.kubernetes.io/component=injector,app.kubernetes.io/name=nobody,", "kubectl apply --server-side --force-conflicts"},
		{"services", "none", func(w *world) { w.remove("Service", "tulle", mesh.Identity) }, "service tulle/tulle-identity does not exist", "tulle upgrade | kubectl apply -f -"},
		{"services", "no pods", scaledTo0(mesh.Identity), "service tulle/tulle-identity has no ready endpoint", "tulle upgrade | kubectl apply -f -"},
		{"services", "no endpoint", func(w *world) { w.remove("EndpointSlice", "tulle", mesh.Identity+"-x") }, "has no ready endpoint", "kubectl -n tulle get endpointslices"},
		{"root", "damaged, and nobody looks after it", all(garbage(mesh.RootSecret), scaledTo0(mesh.Identity)), "holds no certificate", identityIsOff},
		{"issuer", "damaged", garbage(mesh.IssuerSecret), "holds no certificate", "kubectl -n tulle logs deploy/tulle-identity"},
		{"issuer", "damaged, and nobody looks after it", all(garbage(mesh.IssuerSecret), scaledTo0(mesh.Identity)), "holds no certificate", identityIsOff},
		{"issuer", "given, late", given, "should have been renewed", "renew Secret tulle/tulle-identity-issuer where it was made"},
		{"issuer", "given, damaged", all(given, garbage(mesh.IssuerSecret)), "holds no certificate", "renew Secret tulle/tulle-identity-issuer where it was made"},
		{"webhook-certificate", "none, and nobody makes it", all(func(w *world) { w.remove("Secret", "tulle", mesh.InjectorSecret) }, scaledTo0(mesh.Injector)), "does not exist", "deployment tulle/tulle-injector is scaled to 0"},
		{"webhook", "nobody answers", all(func(w *world) { w.webhook = func(p *corev1.Pod) (*corev1.Pod, error) { return p, nil } }, scaledTo0(mesh.Injector)), "was admitted without a proxy", "deployment tulle/tulle-injector is scaled to 0"},
		{"proxies-connected", "nobody to hear", all(func(w *world) {
			w.metrics["shop/web-2"] = strings.Replace(wellMetrics, "discovery_connected 1", "discovery_connected 0", 1)
		}, scaledTo0(mesh.Destination)), "it has no stream", "deployment tulle/tulle-destination is scaled to 0"},
	} {
		t.Run(c.anchor+"/"+c.name, func(t *testing.T) {
			w := healthy(t)
			c.do(w)
			r := results(t, w, After|Proxies, c.anchor)[c.anchor]
			v := newView(console.New(run.Streams{Out: io.Discard}, func(string) string { return "" }), console.Table, "tulle")
			if hint := v.hint(&r); !strings.Contains(strings.Join(r.Problems, "\n"), c.problem) || !strings.Contains(hint, c.try) {
				t.Errorf("%v\ntry: %s\nwant: %s\nand: %s", r.Problems, hint, c.problem, c.try)
			}
		})
	}
}

// The pods that a Deployment will have are what a policy is about while it has none.
func TestAPolicyIsFoundBeforeTheControlPlaneHasPods(t *testing.T) {
	w := healthy(t)
	scaledTo0(mesh.Deployments()...)(w)
	w.remove("Deployment", "tulle", mesh.Destination)
	w.add(&networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "deny", Namespace: "tulle"},
		Spec:       networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}},
	})
	r := results(t, w, After, "network-policies")["network-policies"]
	said := strings.Join(r.Problems, "\n")
	for _, want := range []string{"tulle-identity may not be entered on port 8080", "tulle-destination may not be entered on port 8086", "tulle-injector may not be entered on port 8443"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not said: %v", want, r.Problems)
		}
	}
	w.objects = append(w.objects, parse(t, r.Fix)...)
	if r := results(t, w, After, "network-policies")["network-policies"]; r.Status != OK {
		t.Errorf("after the policy that was shown: %v", r.Problems)
	}
}
