package check

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tulle-mesh/tulle/cli/console"
	"github.com/tulle-mesh/tulle/cli/manifest"
	"github.com/tulle-mesh/tulle/cli/mesh"
	"github.com/tulle-mesh/tulle/internal/run"
)

// broken is a cluster with one thing wrong and what a check must say of it.
type broken struct {
	anchor, name string
	mode         Mode // 0: After
	do           func(w *world)
	status       Status
	problem      string
}

func brokenBefore() []broken {
	node := func(path ...string) func(value any) func(w *world) {
		return func(value any) func(w *world) {
			return func(w *world) { w.set("Node", "", "node-1", value, append([]string{"status"}, path...)...) }
		}
	}
	kernel, system := node("nodeInfo", "kernelVersion"), node("nodeInfo", "operatingSystem")
	quota := func(name corev1.ResourceName, hard string) func(w *world) {
		return func(w *world) {
			w.add(&corev1.ResourceQuota{
				ObjectMeta: metav1.ObjectMeta{Name: "q", Namespace: "tulle"},
				Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{name: resource.MustParse(hard)}},
			})
		}
	}
	return []broken{
		{"kubernetes-version", "too old", Before, func(w *world) { w.version = "v1.24.9" }, Failure, "Kubernetes is v1.24.9; the oldest that is supported is 1.25"},
		{"kubernetes-version", "no native sidecars", Before, func(w *world) { w.version = "v1.28.1" }, Warning, "before 1.29 proxies are ordinary containers"},
		{"clock", "of this machine", Before, func(w *world) { w.serverTime = now.Add(time.Minute) }, Warning, "this machine's clock differs from the API server's by 1m0s"},
		{
			"clock", "of a node", Before,
			func(w *world) {
				w.set("Lease", "kube-node-lease", "node-2", "2026-11-21T12:02:00.000000Z", "spec", "renewTime")
			},
			Warning, "node node-2's clock differs from the API server's by about 2m0s",
		},
		{"already-installed", "installed", Before, func(w *world) { w.install() }, Failure, "Tulle is installed in namespace tulle"},
		{
			"already-installed", "remains", Before,
			func(w *world) { w.install(); w.remove("ConfigMap", "tulle", mesh.Config) }, Warning, "the cluster has a webhook tulle-injector",
		},
		{"permissions", "to create", Before, func(w *world) { w.denied["create /secrets"], w.denied["create apps/deployments"] = true, true }, Failure, "you may not create deployments.apps in namespace tulle"},
		{
			"permissions", "to give rights away", Before,
			func(w *world) {
				w.denied["escalate rbac.authorization.k8s.io/clusterroles"], w.denied["create authentication.k8s.io/tokenreviews"] = true, true
			}, Failure, "you may not give the right to create tokenreviews.authentication.k8s.io, which you do not have",
		},
		{"capacity", "no memory", Before, func(w *world) {
			for _, n := range []string{"node-1", "node-2"} {
				w.set("Node", "", n, map[string]any{"cpu": "2", "memory": "16Mi"}, "status", "allocatable")
			}
		}, Failure, "of memory in 3 pods, and the nodes have 32Mi left"},
		{"capacity", "no node", Before, func(w *world) {
			for _, n := range []string{"node-1", "node-2"} {
				w.set("Node", "", n, true, "spec", "unschedulable")
			}
		}, Failure, "no node is ready and takes pods"},
		{"kernel", "too old", Before, kernel("4.18.0-553.el8"), Warning, "node node-1 has kernel 4.18.0-553.el8; the redirect needs 5.2"},
		{"kernel", "Windows", Before, system("windows"), Warning, "node node-1 runs windows: pods there get no proxy"},
		{"kernel", "gVisor", Before, node("nodeInfo", "containerRuntimeVersion")("runsc://1"), Warning, "node node-1 runs gVisor"},
		{"kernel", "every node", Before, func(w *world) {
			kernel("4.4.0")(w)
			w.set("Node", "", "node-2", "3.10.0", "status", "nodeInfo", "kernelVersion")
		}, Failure, "node node-2 has kernel 3.10.0"},
		{"quota", "pods", Before, quota(corev1.ResourcePods, "2"), Failure, "quota tulle/q leaves 2 of pods, and 3 are asked for"},
		{"quota", "limits", Before, quota(corev1.ResourceLimitsMemory, "1Gi"), Failure, "wants every pod to have limits.memory"},
		{"pod-security", "of a namespace", Before, func(w *world) {
			w.add(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Annotations: map[string]string{"tulle.dev/inject": "enabled"}}})
			w.set("Namespace", "", "shop", map[string]any{"pod-security.kubernetes.io/enforce": "baseline"}, "metadata", "labels")
		}, Failure, `namespace shop asks for proxies and enforces Pod Security "baseline"`},
		{"kube-proxy-replacement", "Cilium", Before, func(w *world) {
			w.add(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "cilium-config", Namespace: "kube-system"}, Data: map[string]string{"kube-proxy-replacement": "true"}})
		}, Warning, "Cilium's socket load balancer chooses endpoints before the proxy"},
		{"kube-proxy-replacement", "Calico", Before, func(w *world) {
			o := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"bpfEnabled": true}}}
			o.SetGroupVersionKind(schema.GroupVersionKind{Group: "crd.projectcalico.org", Version: "v1", Kind: "FelixConfiguration"})
			o.SetName("default")
			w.objects = append(w.objects, o)
		}, Warning, "Calico's eBPF data plane chooses endpoints"},
		{"gateway-api", "old", Before, func(w *world) { w.groups = []string{"gateway.networking.k8s.io/v1alpha2"} }, Warning, "the Gateway API is there in versions v1alpha2, and Tulle reads v1"},
		{"gateway-api", "absent", Before, func(w *world) { w.groups = nil }, Skipped, "not installed"},
	}
}

func brokenInstallation() []broken {
	return []broken{
		{"namespace", "none", 0, func(w *world) { w.remove("Namespace", "", "tulle") }, Failure, "namespace tulle does not exist"},
		{"namespace", "being deleted", 0, func(w *world) {
			w.set("Namespace", "", "tulle", "2026-11-21T11:00:00Z", "metadata", "deletionTimestamp")
			w.set("Namespace", "", "tulle", []any{"x"}, "metadata", "finalizers")
		}, Failure, "namespace tulle is being deleted"},
		{"config", "none", 0, func(w *world) { w.remove("ConfigMap", "tulle", mesh.Config) }, Failure, "ConfigMap tulle/tulle-config does not exist: nothing is installed there"},
		{
			"config", "unreadable", 0,
			func(w *world) {
				w.set("ConfigMap", "tulle", mesh.Config, "proxy: {logLevel: loud}", "data", mesh.ConfigKey)
			}, Failure, `proxy.logLevel="loud": want debug, info, warn or error`,
		},
		{
			"crds", "none", 0,
			func(w *world) { w.remove("CustomResourceDefinition", "", "externalworkloads.policy.tulle.dev") }, Failure,
			"customresourcedefinition/externalworkloads.policy.tulle.dev does not exist",
		},
		{
			"crds", "not established", 0,
			func(w *world) {
				w.set("CustomResourceDefinition", "", "externalworkloads.policy.tulle.dev", []any{}, "status", "conditions")
			}, Failure, "externalworkloads.policy.tulle.dev is not established",
		},
		{
			"crds", "of an old version", 0,
			func(w *world) {
				w.set("CustomResourceDefinition", "", "externalworkloads.policy.tulle.dev", []any{map[string]any{"name": "v1alpha0", "served": true}}, "spec", "versions")
			}, Failure, "does not serve v1alpha1, which this version needs",
		},
		{"objects", "no ServiceAccount", 0, func(w *world) { w.remove("ServiceAccount", "tulle", mesh.Identity) }, Failure, "serviceaccount/tulle-identity in tulle does not exist"},
		{
			"control-plane", "an image that cannot be pulled", 0,
			func(w *world) {
				w.set("Deployment", "tulle", mesh.Identity, int64(0), "status", "readyReplicas")
				w.set("Pod", "tulle", mesh.Identity+"-1", map[string]any{"containerStatuses": []any{map[string]any{
					"name": "identity", "image": "", "imageID": "", "ready": false, "restartCount": int64(0),
					"state": map[string]any{"waiting": map[string]any{"reason": "ImagePullBackOff", "message": "not found"}},
				}}}, "status")
			}, Failure, "pod tulle/tulle-identity-1: container identity: ImagePullBackOff: not found",
		},
		{
			"control-plane", "no node", 0,
			func(w *world) {
				w.set("Deployment", "tulle", mesh.Injector, int64(0), "status", "readyReplicas")
				w.set("Pod", "tulle", mesh.Injector+"-1", map[string]any{"conditions": []any{
					map[string]any{"type": "PodScheduled", "status": "False", "message": "0/2 nodes are available"},
				}}, "status")
			}, Failure, "pod tulle/tulle-injector-1 has no node: 0/2 nodes are available",
		},
		{"control-plane", "missing", 0, func(w *world) { w.remove("Deployment", "tulle", mesh.Destination) }, Failure, "deployment tulle/tulle-destination does not exist"},
		{"control-plane", "scaled to 0", 0, func(w *world) { w.set("Deployment", "tulle", mesh.Identity, int64(0), "spec", "replicas") }, Failure, "deployment tulle/tulle-identity is scaled to 0"},
		{"services", "no endpoint", 0, func(w *world) { w.remove("EndpointSlice", "tulle", mesh.Identity+"-x") }, Failure, "service tulle/tulle-identity has no ready endpoint"},
		{"replicas", "on one node", 0, func(w *world) {
			second := w.get("Pod", "tulle", mesh.Identity+"-1").DeepCopy()
			second.SetName(mesh.Identity + "-2")
			w.objects = append(w.objects, second)
		}, Warning, "all 2 pods of tulle-identity are on node node-1"},
		{"version", "another", 0, func(w *world) {
			w.set("Deployment", "tulle", mesh.Injector, []any{map[string]any{"name": "injector", "image": "ghcr.io/tulle-mesh/tulle-controller:0.0.9"}}, "spec", "template", "spec", "containers")
		}, Warning, "tulle-injector is 0.0.9, and this is tulle"},
	}
}

func brokenCertificates() []broken {
	return []broken{
		{"root", "none", 0, func(w *world) { w.remove("Secret", "tulle", mesh.RootSecret) }, Failure, "Secret tulle/tulle-identity-root does not exist"},
		{"root", "expired", 0, func(w *world) { w.secret(mesh.RootSecret, authority(w.t, "root", nil, 30*time.Minute)) }, Failure, "the root expired at 2026-11-21T11:30:00Z"},
		{"root", "garbage", 0, func(w *world) { w.set("Secret", "tulle", mesh.RootSecret, "AAAA", "data", "tls.crt") }, Failure, "tls.crt: holds no certificate"},
		{"root", "no authority", 0, func(w *world) {
			w.secret(mesh.RootSecret, leaf(w.t, authority(w.t, "x", nil, time.Hour), "y"))
		}, Failure, "is no authority (CA)"},
		{"issuer", "of another root", 0, func(w *world) { w.secret(mesh.IssuerSecret, authority(w.t, "issuer", nil, 720*time.Hour)) }, Failure, "was signed by no root that proxies accept"},
		{"issuer", "late", 0, func(w *world) {
			root := authority(w.t, "root", nil, 720*time.Hour)
			w.secret(mesh.RootSecret, root)
			w.secret(mesh.IssuerSecret, authority(w.t, "issuer", root, 61*time.Minute))
			w.bundle("tulle", root)
		}, Warning, "the issuer expires in 1m0s, at 2026-11-21T12:01:00Z, and should have been renewed"},
		{"root", "given with the issuer, late", 0, func(w *world) {
			root := authority(w.t, "root", nil, 61*time.Minute)
			w.given(root, authority(w.t, "issuer", root, 720*time.Hour))
		}, Warning, "the root expires in 1m0s, at 2026-11-21T12:01:00Z, and should have been renewed"},
		{"issuer", "given, below another, late", 0, func(w *world) {
			root := authority(w.t, "root", nil, 720*time.Hour)
			between := authority(w.t, "between", root, 720*time.Hour)
			w.given(root, authority(w.t, "issuer", between, 61*time.Minute), between)
		}, Warning, "the issuer expires in 1m0s, at 2026-11-21T12:01:00Z, and should have been renewed"},
		{"trust-bundle", "none", 0, func(w *world) { w.remove("ConfigMap", "tulle", mesh.Bundle) }, Failure, "ConfigMap tulle/tulle-trust-bundle does not exist"},
		{"trust-bundle", "none beside pods", 0, func(w *world) { w.remove("ConfigMap", "shop", mesh.Bundle) }, Failure, "ConfigMap shop/tulle-trust-bundle does not exist: new pods there do not start"},
		{"trust-bundle", "another", 0, func(w *world) { w.bundle("shop", authority(w.t, "old", nil, time.Hour)) }, Failure, "ConfigMap shop/tulle-trust-bundle differs"},
		{"trust-bundle", "without the root", 0, func(w *world) {
			other := authority(w.t, "old", nil, 720*time.Hour)
			w.bundle("tulle", other)
			w.bundle("shop", other)
		}, Failure, "does not hold the root"},
		{"webhook-certificate", "no CA yet", 0, func(w *world) { w.caBundle(nil) }, Failure, "has no CA bundle: the injector has not set it yet"},
		{"webhook-certificate", "of another CA", 0, func(w *world) { w.caBundle(authority(w.t, "other", nil, 720*time.Hour)) }, Failure, "the CA bundle does not verify the injector's certificate"},
		{"webhook-certificate", "for another name", 0, func(w *world) {
			ca := authority(w.t, "ca", nil, 720*time.Hour)
			w.caBundle(ca)
			w.secret(mesh.InjectorSecret, leaf(w.t, ca, "elsewhere.svc"))
		}, Failure, "certificate is valid for elsewhere.svc, not tulle-injector.tulle.svc"},
		{"webhook-certificate", "no webhook", 0, func(w *world) { w.remove("MutatingWebhookConfiguration", "", mesh.Webhook) }, Failure, "MutatingWebhookConfiguration tulle-injector does not exist"},
	}
}

func brokenInjection() []broken {
	forbidden := func(why string) func(*corev1.Pod) (*corev1.Pod, error) {
		return func(*corev1.Pod) (*corev1.Pod, error) {
			return nil, apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "", errors.New(why))
		}
	}
	return []broken{
		{"webhook", "gave up", 0, func(w *world) { w.webhook = func(p *corev1.Pod) (*corev1.Pod, error) { return p, nil } }, Failure, "was admitted without a proxy"},
		{"webhook", "refused", 0, func(w *world) {
			w.webhook = func(*corev1.Pod) (*corev1.Pod, error) {
				return nil, apierrors.NewInternalError(errors.New(`failed calling webhook "inject.tulle.dev": connection refused`))
			}
		}, Failure, "the API server asked the injector and got no good answer"},
		{"webhook", "Pod Security", 0, func(w *world) { w.webhook = forbidden("violates PodSecurity") }, Skipped, "Pod Security of namespace default admits no proxy"},
		{"webhook", "not allowed", 0, func(w *world) { w.webhook = forbidden("no") }, Skipped, "you may not create pods in namespace default"},
		{"annotations", "a bad value", 0, func(w *world) {
			w.set("Namespace", "", "shop", map[string]any{"tulle.dev/inject": "enabled", "config.tulle.dev/log-level": "loud"}, "metadata", "annotations")
		}, Failure, `namespace shop: annotation config.tulle.dev/log-level="loud": want`},
		{"annotations", "an unknown name", 0, func(w *world) {
			w.set("Namespace", "", "shop", map[string]any{"tulle.dev/inject": "enabled", "config.tulle.dev/loglevel": "info"}, "metadata", "annotations")
		}, Warning, "did you mean config.tulle.dev/log-level?"},
		{
			"namespace-labels", "not mirrored", 0,
			func(w *world) { w.set("Namespace", "", "shop", map[string]any{}, "metadata", "labels") }, Warning,
			"namespace shop has the annotation tulle.dev/inject: enabled and not the label",
		},
		{"unmeshed", "came before", 0, func(w *world) { w.add(w.pod("old-1", false)); w.add(w.pod("old-2", false)) }, Warning, "2 pods of shop/old: created before a proxy was asked for"},
		{"unmeshed", "hostNetwork", 0, func(w *world) {
			p := w.pod("net-1", false)
			p.Spec.HostNetwork = true
			w.add(p)
		}, Warning, "pods of shop/net: it uses the node's network"},
	}
}

func brokenNetwork() []broken {
	deny := func(namespace string, direction networkingv1.PolicyType) func(w *world) {
		return func(w *world) {
			w.add(&networkingv1.NetworkPolicy{
				ObjectMeta: metav1.ObjectMeta{Name: "deny", Namespace: namespace},
				Spec:       networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{direction}},
			})
		}
	}
	return []broken{
		{"network-policies", "nothing leaves", 0, deny("shop", networkingv1.PolicyTypeEgress), Failure, "pods of shop/web may not reach tulle-identity:8080 and tulle-destination:8086 and DNS:1053"},
		{"network-policies", "no names", 0, func(w *world) {
			policy := egressFix("shop", "tulle", nil)
			w.add(&policy)
		}, Failure, "pods of shop/web may not reach DNS:1053"},
		{"network-policies", "nothing enters", 0, deny("tulle", networkingv1.PolicyTypeIngress), Failure, "tulle-injector may not be entered on port 8443 by the API server"},
		{"app-protocol", "unknown", 0, func(w *world) {
			name := "gopher"
			w.add(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 70, AppProtocol: &name}}}})
		}, Warning, `service shop/web: port 70 has appProtocol "gopher", which is not known`},
	}
}

func brokenProxies() []broken {
	says := func(old, replaced string) func(w *world) {
		return func(w *world) { w.metrics["shop/web-2"] = strings.Replace(wellMetrics, old, replaced, 1) }
	}
	all := After | Proxies
	return []broken{
		{"proxies-ready", "not ready", all, func(w *world) {
			w.set("Pod", "shop", "web-1", []any{map[string]any{"name": mesh.Proxy, "ready": false, "restartCount": int64(4), "image": "", "imageID": ""}}, "status", "initContainerStatuses")
		}, Failure, "pod shop/web-1: the proxy is not ready (4 restarts)"},
		{"proxies-ready", "not started", all, func(w *world) {
			w.set("Pod", "shop", "web-1", map[string]any{"conditions": []any{map[string]any{"type": "PodScheduled", "status": "False", "message": "no room"}}}, "status")
		}, Failure, "pod shop/web-1: the proxy has not been started: has no node: no room"},
		{"proxies-version", "older", all, func(w *world) {
			p := w.get("Pod", "shop", "web-1")
			list, _, err := unstructured.NestedSlice(p.Object, "spec", "initContainers")
			w.must(err)
			for _, c := range list {
				c.(map[string]any)["image"] = "ghcr.io/tulle-mesh/tulle-proxy:0.0.1"
			}
			w.must(unstructured.SetNestedSlice(p.Object, list, "spec", "initContainers"))
		}, Warning, "1 pods of shop/web: proxy 0.0.1, control plane"},
		{"proxies-certified", "none", all, says("1.7954e+09", "0"), Failure, "pod shop/web-2: it has no certificate"},
		{"proxies-certified", "expired", all, says("1.7954e+09", "1.7e+09"), Failure, "its certificate expired"},
		{"proxies-certified", "degraded", all, says("identity_degraded 0", "identity_degraded 1"), Failure, "it misses the identity service"},
		{"proxies-certified", "silent", all, func(w *world) { delete(w.metrics, "shop/web-2") }, Failure, "pod shop/web-2 does not answer"},
		{"proxies-connected", "no stream", all, says("discovery_connected 1", "discovery_connected 0"), Failure, "pod shop/web-2: it has no stream to the destination service"},
		{"proxies-agree", "digests", all, says("mismatch_total 1", "mismatch_total 5"), Failure, "5 digests differed from what it held, and it asked anew only 1 times"},
		{"proxies-agree", "a refusal", all, func(w *world) {
			w.streams = `{"streams":[{"proxy":"shop/web-1","subjects":[{"target":"db.shop:5432","nack":{"reason":"bad route"}}]}]}`
		}, Failure, "proxy of shop/web-1 refused what it was sent of db.shop:5432: bad route"},
		{"opaque-ports", "not declared", all, func(w *world) {
			w.metrics["shop/db-1"] += `proxy_detection_total{direction="inbound",port="15432",outcome="server_first"} 3` + "\n"
		}, Warning, `pods of shop/db: port 15432 speaks no HTTP (3 connections); each connection waits until that is clear: annotate config.tulle.dev/opaque-ports: "15432"`},
		{"opaque-ports", "two kinds", all, says(`outcome="http1"} 7`, `outcome="http1"} 7`+"\n"+`proxy_detection_total{direction="inbound",port="8080",outcome="opaque"} 2`), Warning, "port 8080 was HTTP in 14 connections and something else in 2"},
	}
}

// Done when 3: for every check a test breaks just that thing and its hint appears.
func TestEveryCheckFindsWhatIsBroken(t *testing.T) {
	all := slices.Concat(brokenBefore(), brokenInstallation(), brokenCertificates(), brokenInjection(), brokenNetwork(), brokenProxies())
	covered := map[string]bool{"api": true} // TestAnUnreachableServerIsFatal
	for _, c := range all {
		covered[c.anchor] = true
		t.Run(c.anchor+"/"+c.name, func(t *testing.T) {
			w := bare(t)
			if c.mode != Before {
				w = healthy(t)
			}
			c.do(w)
			mode := c.mode
			if mode == 0 {
				mode = After
			}
			r := results(t, w, mode, c.anchor)[c.anchor]
			said := strings.Join(append(r.Problems, r.Note), "\n")
			if r.Status != c.status || !strings.Contains(said, c.problem) {
				t.Errorf("got %s:\n%s\nwant %s: %s", r.Status, said, c.status, c.problem)
			}
			var out strings.Builder
			v := newView(console.New(run.Streams{Out: &out}, func(string) string { return "" }), console.Table, "tulle")
			v.result(r)
			if shown := strings.Contains(out.String(), cmp.Or(r.Try, r.Hint)[:10]) && strings.Contains(out.String(), "checks.md#"+c.anchor); shown != (c.status != Skipped) {
				t.Errorf("the hint is not shown:\n%s", out.String())
			}
		})
	}
	for _, c := range Table() {
		if !covered[c.Anchor] {
			t.Errorf("no test breaks what %q looks for", c.Anchor)
		}
	}
}

func TestAPolicyThatMendsIsShownAndMends(t *testing.T) {
	w := healthy(t)
	for _, ns := range []string{"shop", "tulle"} {
		w.add(&networkingv1.NetworkPolicy{
			ObjectMeta: metav1.ObjectMeta{Name: "deny", Namespace: ns},
			Spec:       networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeEgress, networkingv1.PolicyTypeIngress}},
		})
	}
	r := results(t, w, After, "network-policies")["network-policies"]
	if r.Status != Failure || strings.Count(r.Fix, "kind: NetworkPolicy") != 2 {
		t.Fatalf("got %s and\n%s", r.Status, r.Fix)
	}
	w.objects = append(w.objects, parse(t, r.Fix)...)
	if r := results(t, w, After, "network-policies")["network-policies"]; r.Status != OK {
		t.Errorf("after the policies that were shown: %v", r.Problems)
	}
}

func TestPoliciesAreReadAsTheAPISays(t *testing.T) {
	tcp, udp, end := corev1.ProtocolTCP, corev1.ProtocolUDP, int32(9000)
	port := func(p intstr.IntOrString) *intstr.IntOrString { return &p }
	w := &wall{namespaces: map[string]*corev1.Namespace{"tulle": {ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"team": "mesh"}}}}}
	from := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Labels: map[string]string{"app": "web"}}}
	to := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "tulle", Labels: map[string]string{"c": "identity"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "grpc", ContainerPort: 8080}}}}},
		Status:     corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}}},
	}
	anyNamespace := &metav1.LabelSelector{}
	for _, c := range []struct {
		name  string
		peers []networkingv1.NetworkPolicyPeer
		ports []networkingv1.NetworkPolicyPort
		want  bool
	}{
		{"everything", nil, nil, true},
		{"its port", nil, []networkingv1.NetworkPolicyPort{{Protocol: &tcp, Port: port(intstr.FromInt32(8080))}}, true},
		{"another port", nil, []networkingv1.NetworkPolicyPort{{Port: port(intstr.FromInt32(80))}}, false},
		{"a range", nil, []networkingv1.NetworkPolicyPort{{Port: port(intstr.FromInt32(8000)), EndPort: &end}}, true},
		{"its port by name", nil, []networkingv1.NetworkPolicyPort{{Port: port(intstr.FromString("grpc"))}}, true},
		{"a name that it has not", nil, []networkingv1.NetworkPolicyPort{{Port: port(intstr.FromString("http"))}}, false},
		{"UDP", nil, []networkingv1.NetworkPolicyPort{{Protocol: &udp}}, false},
		{"pods of the own namespace", []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{}}}, nil, false},
		{"every namespace", []networkingv1.NetworkPolicyPeer{{NamespaceSelector: anyNamespace}}, nil, true},
		{"its namespace", []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "mesh"}}}}, nil, true},
		{"another namespace", []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "x"}}}}, nil, false},
		{"other pods of it", []networkingv1.NetworkPolicyPeer{{NamespaceSelector: anyNamespace, PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"c": "x"}}}}, nil, false},
		{"its network", []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: "fd00::/8"}}}, nil, true},
		{"its network without it", []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: "10.0.0.0/8", Except: []string{"10.0.0.0/24"}}}}, nil, false},
	} {
		w.policies = []networkingv1.NetworkPolicy{{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop"},
			Spec:       networkingv1.NetworkPolicySpec{Egress: []networkingv1.NetworkPolicyEgressRule{{To: c.peers, Ports: c.ports}}},
		}}
		if got := w.leaves(from, to, door{port: 8080, protocol: tcp}); got != c.want {
			t.Errorf("a policy for %s: %v, want %v", c.name, got, c.want)
		}
	}
	if w.policies = nil; !w.leaves(from, to, door{port: 8080, protocol: tcp}) {
		t.Error("without a policy nothing is cut")
	}
}

func parse(t *testing.T, text string) []*unstructured.Unstructured {
	t.Helper()
	all, err := manifest.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var out []*unstructured.Unstructured
	for i := range all {
		out = append(out, &all[i])
	}
	return out
}
