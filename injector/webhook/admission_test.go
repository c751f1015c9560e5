package webhook

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"

	"github.com/tulle-mesh/tulle/injector/inject"
)

// asked is an admission with its recorder.
func asked(t *testing.T) (*admission, *record.FakeRecorder) {
	t.Helper()
	s := known(t, cluster(namespace("bad", map[string]string{inject.AnnotationInject: "enabled", "config.tulle.dev/workers": "many"}, nil)))
	r := record.NewFakeRecorder(8)
	return &admission{settings: s, recorder: r, counts: s.counts, log: zap.NewNop(), now: time.Now}, r
}

func ask(a *admission, body []byte) (int, string) {
	w := httptest.NewRecorder()
	a.ServeHTTP(w, httptest.NewRequest(http.MethodPost, Path, bytes.NewReader(body)))
	return w.Code, w.Body.String()
}

// response wants a review back, with the question's uid.
func response(t *testing.T, a *admission, body []byte) *admissionv1.AdmissionResponse {
	t.Helper()
	code, text := ask(a, body)
	var got admissionv1.AdmissionReview
	if err := json.Unmarshal([]byte(text), &got); err != nil || code != 200 || got.Response == nil || got.Response.UID != "42" || got.Kind != "AdmissionReview" {
		t.Fatalf("%d %s: %v", code, text, err)
	}
	return got.Response
}

// told is the event that was recorded, "" for none.
func told(r *record.FakeRecorder) string {
	select {
	case e := <-r.Events:
		return e
	default:
		return ""
	}
}

func TestAPodIsInjected(t *testing.T) { // R13.1
	a, r := asked(t)
	p := pod("shop", "web-1")
	resp := response(t, a, review(t, p))
	if !resp.Allowed || resp.PatchType == nil || *resp.PatchType != admissionv1.PatchTypeJSONPatch {
		t.Fatalf("%+v", resp)
	}
	patch, err := jsonpatch.DecodePatch(resp.Patch)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if raw, err = patch.Apply(raw); err != nil {
		t.Fatal(err)
	}
	var got corev1.Pod
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Spec.InitContainers) != 2 || got.Labels[inject.LabelProxy] != "true" || got.UID != p.UID {
		t.Errorf("%+v", got)
	}
	if e := told(r); e != "" {
		t.Errorf("an event about a pod that has a proxy: %s", e)
	}
	if n := testutil.ToFloat64(a.counts.admissions.WithLabelValues(injected, "")); n != 1 {
		t.Errorf("counted %v", n)
	}
	// Asked again about what it has made (reinvocationPolicy IfNeeded), it has nothing to add.
	if resp := response(t, a, review(t, &got)); !resp.Allowed || resp.Patch != nil {
		t.Errorf("%s", resp.Patch)
	}
}

func TestASkipHasAReasonInAnEvent(t *testing.T) { // R13.1
	a, r := asked(t)
	host := pod("shop", "", func(p *corev1.Pod) {
		p.Spec.HostNetwork, p.GenerateName = true, "agent-"
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "DaemonSet", Name: "agent", UID: "7", Controller: new(true)}}
	})
	resp := response(t, a, review(t, host))
	if e := told(r); !resp.Allowed || resp.Patch != nil || !strings.HasPrefix(e, "Warning InjectionSkipped pod shop/agent-…: skipped: it uses the node's network") {
		t.Errorf("%+v, event %q", resp, e)
	}
	if n := testutil.ToFloat64(a.counts.admissions.WithLabelValues(skipped, "host-network")); n != 1 {
		t.Errorf("counted %v", n)
	}
	// Nobody asked, or somebody said no: no event.
	for _, p := range []*corev1.Pod{pod("plain", "x"), pod("shop", "y", func(p *corev1.Pod) { p.Labels = map[string]string{inject.AnnotationInject: "disabled"} })} {
		if resp := response(t, a, review(t, p)); !resp.Allowed || resp.Patch != nil || told(r) != "" {
			t.Errorf("%+v", resp)
		}
	}
	// A dry run leaves no trace.
	if response(t, a, review(t, host, func(r *admissionv1.AdmissionRequest) { r.DryRun = new(true) })); told(r) != "" {
		t.Error("an event of a dry run")
	}
}

func TestWhatCannotBeIsRefusedWithTheReason(t *testing.T) { // R13.1, R13.4
	a, r := asked(t)
	for name, c := range map[string]struct {
		pod  *corev1.Pod
		want string
	}{
		"a namespace's annotation": {pod("bad", "x"), `namespace bad: annotation config.tulle.dev/workers="many": want a number from 1 to 64`},
		"a pod's annotation": {pod("shop", "x", func(p *corev1.Pod) { p.Annotations = map[string]string{"config.tulle.dev/await": "yes"} }),
			`pod shop/x: annotation config.tulle.dev/await="yes": want enabled or disabled`},
		"the proxy's user": {pod("shop", "x", func(p *corev1.Pod) { p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: new(int64(2102))} }),
			"pod shop/x: the pod runs as user 2102, which is the proxy's"},
		"a namespace that is not there": {pod("none", "x"), `namespace none: namespaces "none" not found`},
	} {
		resp := response(t, a, review(t, c.pod))
		if resp.Allowed || resp.Patch != nil || resp.Result == nil || resp.Result.Code != 422 || !strings.HasPrefix(resp.Result.Message, c.want) {
			t.Errorf("%s: %+v", name, resp)
		}
		if e := told(r); !strings.Contains(e, "Warning InjectionRefused "+c.want) {
			t.Errorf("%s: event %q", name, e)
		}
	}
}

func TestNoticesAreWarnings(t *testing.T) {
	a, r := asked(t)
	resp := response(t, a, review(t, pod("shop", "x", func(p *corev1.Pod) { p.Annotations = map[string]string{"config.tulle.dev/access-log": "json"} })))
	if len(resp.Warnings) != 1 || !strings.Contains(resp.Warnings[0], "writes no access log") || !strings.Contains(told(r), "Normal InjectionNotice") {
		t.Errorf("%v", resp.Warnings)
	}
}

func TestQuestionsAboutOtherThingsPass(t *testing.T) {
	a, _ := asked(t)
	for name, change := range map[string]func(*admissionv1.AdmissionRequest){
		"an update":       func(r *admissionv1.AdmissionRequest) { r.Operation = admissionv1.Update },
		"a sub-resource":  func(r *admissionv1.AdmissionRequest) { r.SubResource = "exec" },
		"another kind":    func(r *admissionv1.AdmissionRequest) { r.Resource.Resource = "services" },
		"an odd resource": func(r *admissionv1.AdmissionRequest) { r.Resource.Group = "x"; r.Object.Raw = []byte("[]") },
	} {
		if resp := response(t, a, review(t, pod("shop", "x"), change)); !resp.Allowed || resp.Patch != nil {
			t.Errorf("%s: %+v", name, resp)
		}
	}
}

func TestWhatIsNoQuestionIsAnHTTPError(t *testing.T) {
	a, _ := asked(t)
	good := string(review(t, pod("shop", "x")))
	for body, want := range map[string]int{
		"": 400, "{}": 400, "[]": 400,
		strings.Replace(good, "admission.k8s.io/v1", "admission.k8s.io/v1beta1", 1): 400,
		strings.Replace(good, `"uid":"42"`, `"uid":""`, 1):                          400,
		strings.Replace(good, `"containers":`, `"containers":1,"x":`, 1):            400,
		strings.Repeat(" ", mostBody+1):                                             413,
	} {
		if code, text := ask(a, []byte(body)); code != want {
			t.Errorf("%.40s: %d %s, want %d", body, code, text, want)
		}
	}
	if resp := response(t, a, []byte(good)); !resp.Allowed {
		t.Errorf("%+v", resp)
	}
	a.settings.mesh.Store(nil)
	if code, text := ask(a, []byte(good)); code != 503 || !strings.Contains(text, "tulle/tulle-config") {
		t.Errorf("%d %s", code, text)
	}
}

func FuzzReview(f *testing.F) {
	f.Add(review(f, pod("shop", "web")))
	f.Add(review(f, pod("plain", "", func(p *corev1.Pod) { p.Spec.HostNetwork, p.GenerateName = true, "x-" })))
	f.Add(review(f, pod("shop", "x", func(p *corev1.Pod) {
		p.Annotations = map[string]string{inject.AnnotationOriginal: `{"labels":{"a":null},"probes":{"app/liveness":{}}}`, "config.tulle.dev/timeouts": "idle=1s"}
	})))
	f.Add([]byte(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1"}}`))
	s := known(f, cluster())
	a := &admission{settings: s, recorder: &record.FakeRecorder{}, counts: s.counts, log: zap.NewNop(), now: time.Now} // events are dropped
	f.Fuzz(func(t *testing.T, body []byte) {
		code, text := ask(a, body)
		if code != http.StatusOK {
			return
		}
		var got admissionv1.AdmissionReview
		if err := json.Unmarshal([]byte(text), &got); err != nil || got.Response == nil {
			t.Fatalf("%s: %v", text, err)
		}
		if !got.Response.Allowed && (got.Response.Result == nil || got.Response.Result.Message == "") {
			t.Error("refused without a reason")
		}
		if len(got.Response.Patch) > 0 {
			if _, err := jsonpatch.DecodePatch(got.Response.Patch); err != nil {
				t.Error(err)
			}
		}
	})
}
