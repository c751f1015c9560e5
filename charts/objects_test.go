package charts

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"github.com/tulle-mesh/tulle/injector/config"
)

// every are renders that between them reach each branch of the templates.
func every() map[string]Options {
	return map[string]Options{
		"default":     {Chart: Tulle},
		"dev":         {Chart: Tulle, Profiles: []string{"dev"}},
		"ha":          {Chart: Tulle, Profiles: []string{"ha"}},
		"forbidden":   {Chart: Tulle, Set: []string{"controlPlane.sameNode=forbidden,image.pullSecrets[0].name=x"}},
		"oldest":      {Chart: Tulle, Profiles: []string{"ha"}, KubeVersion: "v1.25.0-gke.1"},
		"definitions": {Chart: CRDs},
	}
}

// decoded reads a manifest as the API server would with fieldValidation=Strict: what it does not know is an error.
func decoded(t *testing.T, o map[string]any) runtime.Object {
	t.Helper()
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, rbacv1.AddToScheme, policyv1.AddToScheme,
		admissionv1.AddToScheme, apiextensionsv1.AddToScheme,
	} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	data, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	strict := serializer.NewCodecFactory(s, serializer.EnableStrict).UniversalDeserializer()
	obj, _, err := strict.Decode(data, nil, nil)
	if err != nil {
		t.Fatalf("%s: %v", name(o), err)
	}
	return obj
}

func TestEveryManifestIsStrictlyWhatKubernetesKnows(t *testing.T) {
	for profile, o := range every() {
		t.Run(profile, func(t *testing.T) {
			seen := map[string]bool{}
			for _, one := range objects(t, o) {
				if seen[name(one)] {
					t.Errorf("%s is there twice", name(one))
				}
				seen[name(one)] = true
				obj, ok := decoded(t, one).(metav1.Object)
				if !ok {
					t.Fatalf("%s has no metadata", name(one))
				}
				if obj.GetLabels()["app.kubernetes.io/part-of"] != "tulle" {
					t.Errorf("%s has no label part-of, by which prune and uninstall find it", name(one))
				}
			}
		})
	}
}

// TestTheControlPlaneIsRestricted: the Pod Security Standards' strictest level, as the API server checks it.
func TestTheControlPlaneIsRestricted(t *testing.T) {
	checks, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	for profile, o := range every() {
		pods := 0
		for _, one := range objects(t, o) {
			d, ok := decoded(t, one).(*appsv1.Deployment)
			if !ok {
				continue
			}
			pods++
			for _, r := range checks.EvaluatePod(level, &d.Spec.Template.ObjectMeta, &d.Spec.Template.Spec) {
				if !r.Allowed {
					t.Errorf("%s: %s: %s: %s", profile, name(one), r.ForbiddenReason, r.ForbiddenDetail)
				}
			}
			for _, c := range d.Spec.Template.Spec.Containers {
				if ro := c.SecurityContext.ReadOnlyRootFilesystem; ro == nil || !*ro {
					t.Errorf("%s: %s may write its root", profile, name(one))
				}
			}
		}
		if pods != 3 && o.Chart == Tulle {
			t.Errorf("%s: %d Deployments", profile, pods)
		}
	}
}

// TestAccessIsTheListed: a right more or less is seen in review as a line of testdata/access.txt.
func TestAccessIsTheListed(t *testing.T) {
	var lines []string
	list := func(kind, name string, rules []rbacv1.PolicyRule) {
		for _, r := range rules {
			for _, group := range r.APIGroups {
				for _, resource := range r.Resources {
					line := fmt.Sprintf("%s %s: %s %s", kind, name, strings.Join(r.Verbs, ","), strings.TrimPrefix(group+"/"+resource, "/"))
					if len(r.ResourceNames) > 0 {
						line += " named " + strings.Join(r.ResourceNames, ", ")
					}
					lines = append(lines, line)
				}
			}
		}
	}
	for _, one := range objects(t, Options{Chart: Tulle}) {
		switch o := decoded(t, one).(type) {
		case *rbacv1.ClusterRole:
			list("everywhere", o.Name, o.Rules)
		case *rbacv1.Role:
			list("in its own namespace", o.Name, o.Rules)
		}
	}
	for _, l := range lines {
		if strings.Contains(l, "*") {
			t.Errorf("a right to everything: %s", l)
		}
	}
	slices.Sort(lines)
	golden(t, "testdata/access.txt", []byte(strings.Join(lines, "\n")+"\n"))
}

// TestTheWebhookIsByR131 has what a mistake in would harm the whole cluster (R13.1).
func TestTheWebhookIsByR131(t *testing.T) {
	for profile, labelled := range map[string]admissionv1.FailurePolicyType{"default": admissionv1.Ignore, "ha": admissionv1.Fail} {
		var w *admissionv1.MutatingWebhookConfiguration
		for _, one := range objects(t, Options{Chart: Tulle, Namespace: "mesh", Profiles: []string{profile}}) {
			if o, ok := decoded(t, one).(*admissionv1.MutatingWebhookConfiguration); ok {
				w = o
			}
		}
		if w == nil || w.Name != "tulle-injector" || len(w.Webhooks) != 2 {
			t.Fatalf("%s: the webhook is %+v", profile, w)
		}
		for i, want := range []struct {
			failure admissionv1.FailurePolicyType
			asked   metav1.LabelSelectorOperator
		}{{labelled, metav1.LabelSelectorOpIn}, {admissionv1.Ignore, metav1.LabelSelectorOpNotIn}} {
			h := w.Webhooks[i]
			exprs := h.NamespaceSelector.MatchExpressions
			if *h.FailurePolicy != want.failure || exprs[1].Key != "tulle.dev/inject" || exprs[1].Operator != want.asked {
				t.Errorf("%s, entry %d: failurePolicy %s for namespaces %v", profile, i, *h.FailurePolicy, exprs[1])
			}
			if exprs[0].Operator != metav1.LabelSelectorOpNotIn || !slices.Equal(exprs[0].Values, []string{"kube-system", "mesh"}) {
				t.Errorf("%s, entry %d: it sees namespaces that %v", profile, i, exprs[0])
			}
			if len(h.ClientConfig.CABundle) > 0 {
				t.Errorf("%s, entry %d: a caBundle that applying again would reset", profile, i)
			}
			if *h.SideEffects != admissionv1.SideEffectClassNone || *h.ReinvocationPolicy != admissionv1.IfNeededReinvocationPolicy {
				t.Errorf("%s, entry %d: sideEffects %s, reinvocationPolicy %s", profile, i, *h.SideEffects, *h.ReinvocationPolicy)
			}
		}
	}
}

// TestTheInjectorReadsWhatTheChartKeeps: every render's values.yaml is what injector/config takes.
func TestTheInjectorReadsWhatTheChartKeeps(t *testing.T) {
	all := every()
	all["set"] = Options{Chart: Tulle, Set: []string{
		"proxy.opaquePorts={25,3306-3310},proxy.skipInboundPorts=8080,proxy.skipSubnets=10.0.0.0/8",
		"proxy.strict=true,proxy.detect.silence=20ms,proxy.limits.connections=100,proxy.memoryLimit=1Gi,proxy.cpuLimit=1",
		"proxy.nativeSidecar=enabled,clusterNetworks={10.0.0.0/8,fd00::/8},trustDomain=example.org",
	}}
	all["none opaque"] = Options{Chart: Tulle, Values: map[string]any{"proxy": map[string]any{"opaquePorts": ""}}}
	for profile, o := range all {
		for _, one := range objects(t, o) {
			cm, ok := decoded(t, one).(*corev1.ConfigMap)
			if !ok {
				continue
			}
			if cm.Name != config.ConfigMap {
				t.Errorf("%s: ConfigMap %s", profile, cm.Name)
			}
			m, err := config.FromValues("tulle", []byte(cm.Data[config.ConfigKey]))
			if err != nil {
				t.Errorf("%s: %v", profile, err)
				continue
			}
			if want := o.Set != nil && profile == "set"; want != (m.TrustDomain == "example.org") {
				t.Errorf("%s: trust domain %s", profile, m.TrustDomain)
			}
		}
	}
}

// TestWishesAreWhatDiffersFromTheProfile: an upgrade starts from them.
func TestWishesAreWhatDiffersFromTheProfile(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Chart: Tulle}, "profiles: []\nvalues: {}\n"},
		{Options{Chart: Tulle, Profiles: []string{"ha"}}, "profiles:\n- ha\nvalues: {}\n"},
		{
			Options{Chart: Tulle, Profiles: []string{"ha"}, Set: []string{"controlPlane.replicas=5,proxy.workers=1,proxy.opaquePorts={25}"}},
			"profiles:\n- ha\nvalues:\n  controlPlane:\n    replicas: 5\n  proxy:\n    opaquePorts:\n    - 25\n",
		},
		{Options{Chart: Tulle, Set: []string{"createNamespace=false,image.registry=r.example.org/m"}}, "profiles: []\nvalues:\n  image:\n    registry: r.example.org/m\n"},
	} {
		for _, one := range objects(t, c.o) {
			if cm, ok := decoded(t, one).(*corev1.ConfigMap); ok && cm.Data["wishes.yaml"] != c.want {
				t.Errorf("%v %v: wishes\n%s\nwant\n%s", c.o.Profiles, c.o.Set, cm.Data["wishes.yaml"], c.want)
			}
		}
	}
}

// TestNothingRandomAndNoCertificateIsInATemplate: GitOps applies the same chart again and again.
func TestNothingRandomAndNoCertificateIsInATemplate(t *testing.T) {
	for _, chart := range []string{Tulle, CRDs} {
		text := templates(t, chart)
		for _, function := range []string{"rand", "genCA", "genSelfSigned", "genSigned", "genPrivateKey", "uuidv4", "now", "htpasswd", "bcrypt", "env", "derivePassword"} {
			for _, before := range []string{" ", "("} {
				if strings.Contains(text, before+function+" ") || strings.Contains(text, before+function+"A") {
					t.Errorf("%s: a template calls %s", chart, function)
				}
			}
		}
		if strings.Contains(text, "kind: Secret") {
			t.Errorf("%s makes a Secret", chart)
		}
	}
	if _, err := os.Stat("tulle/crds"); err == nil {
		t.Error("what is in crds/ is never updated")
	}
}

// TestApplyingAgainLeavesTheCABundle: kubectl apply and Helm 3 merge three ways, with this code.
func TestApplyingAgainLeavesTheCABundle(t *testing.T) {
	manifest := func(o Options) *admissionv1.MutatingWebhookConfiguration {
		for _, one := range objects(t, o) {
			if w, ok := decoded(t, one).(*admissionv1.MutatingWebhookConfiguration); ok {
				return w
			}
		}
		t.Fatal("no webhook")
		return nil
	}
	applied := manifest(Options{Chart: Tulle})
	live := applied.DeepCopy()
	for i := range live.Webhooks {
		live.Webhooks[i].ClientConfig.CABundle = []byte("authority")
	}
	next := manifest(Options{Chart: Tulle, Profiles: []string{"ha"}, Set: []string{"injector.timeoutSeconds=7"}})
	var docs [][]byte
	for _, o := range []any{applied, next, live} {
		data, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		docs = append(docs, data)
	}
	meta, err := strategicpatch.NewPatchMetaFromStruct(admissionv1.MutatingWebhookConfiguration{})
	if err != nil {
		t.Fatal(err)
	}
	patch, err := strategicpatch.CreateThreeWayMergePatch(docs[0], docs[1], docs[2], meta, true)
	if err != nil {
		t.Fatal(err)
	}
	merged, err := strategicpatch.StrategicMergePatch(docs[2], patch, admissionv1.MutatingWebhookConfiguration{})
	if err != nil {
		t.Fatal(err)
	}
	var got admissionv1.MutatingWebhookConfiguration
	if err := json.Unmarshal(merged, &got); err != nil {
		t.Fatal(err)
	}
	for i := range got.Webhooks {
		if w := got.Webhooks[i]; string(w.ClientConfig.CABundle) != "authority" || *w.TimeoutSeconds != 7 {
			t.Errorf("entry %d: caBundle %q, timeout %d after applying again", i, w.ClientConfig.CABundle, *w.TimeoutSeconds)
		}
	}
}

// TestOpaquePortsReachDestination in each form that the value may have.
func TestOpaquePortsReachDestination(t *testing.T) {
	for set, want := range map[string]string{
		"profile=default":              "--opaque-ports=25,587,3306,4444,5432,6379,9300,11211",
		"proxy.opaquePorts={25,80-90}": "--opaque-ports=25,80-90",
		"proxy.opaquePorts=3306":       "--opaque-ports=3306",
		"proxy.opaquePorts=":           "--opaque-ports=",
		`proxy.opaquePorts=25\,80-90`:  "--opaque-ports=25,80-90",
		"clusterNetworks={10.0.0.0/8}": "--cluster-networks=10.0.0.0/8",
	} {
		for _, one := range objects(t, Options{Chart: Tulle, Set: []string{set}}) {
			if d, ok := decoded(t, one).(*appsv1.Deployment); ok && d.Name == "tulle-destination" {
				if args := d.Spec.Template.Spec.Containers[0].Args; !slices.Contains(args, want) {
					t.Errorf("--set %s: arguments %v, want %s", set, args, want)
				}
			}
		}
	}
}

// TestGoKnowsItsLimit: the heap stays below what the kernel allows.
func TestGoKnowsItsLimit(t *testing.T) {
	for limit, want := range map[string]string{
		"256Mi": "241591910", "1Gi": "966367641", "1.5Gi": "1449551462", "100M": "90000000", "134217728": "120795955", "": "",
	} {
		o := Options{Chart: Tulle}
		if limit != "" {
			o.Set = []string{"identity.resources.limits.memory=" + limit}
		}
		for _, one := range objects(t, o) {
			d, ok := decoded(t, one).(*appsv1.Deployment)
			if !ok || d.Name != "tulle-identity" {
				continue
			}
			var got string
			for _, e := range d.Spec.Template.Spec.Containers[0].Env {
				got += e.Name + "=" + e.Value
			}
			if want != "" && got != "GOMEMLIMIT="+want || want == "" && got != "" {
				t.Errorf("limit %s: environment %q, want GOMEMLIMIT=%s", limit, got, want)
			}
		}
	}
}
