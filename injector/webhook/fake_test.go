package webhook

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/version"
	fakediscovery "k8s.io/client-go/discovery/fake"
	"k8s.io/client-go/kubernetes/fake"
	corev1listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/tulle-mesh/tulle/injector/config"
	"github.com/tulle-mesh/tulle/injector/inject"
)

// cluster is a fake API server with what an installation has.
func cluster(objects ...runtime.Object) *fake.Clientset {
	hook := func(name string) admissionregistrationv1.MutatingWebhook {
		return admissionregistrationv1.MutatingWebhook{
			Name: name, TimeoutSeconds: new(int32(5)),
			ClientConfig: admissionregistrationv1.WebhookClientConfig{
				Service: &admissionregistrationv1.ServiceReference{Namespace: "tulle", Name: Service, Path: new(Path)},
			},
		}
	}
	c := fake.NewClientset(append([]runtime.Object{
		&admissionregistrationv1.MutatingWebhookConfiguration{
			ObjectMeta: metav1.ObjectMeta{Name: WebhookConfig},
			Webhooks:   []admissionregistrationv1.MutatingWebhook{hook("inject.tulle.dev"), hook("unlabelled.inject.tulle.dev")},
		},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: config.ConfigMap, Namespace: "tulle"}, Data: map[string]string{config.ConfigKey: "proxy: {logLevel: warn}"}},
		namespace("shop", map[string]string{inject.AnnotationInject: "enabled"}, nil),
		namespace("plain", nil, nil),
	}, objects...)...)
	c.Discovery().(*fakediscovery.FakeDiscovery).FakedServerVersion = &version.Info{Major: "1", Minor: "37"}
	return c
}

func namespace(name string, annotations, labels map[string]string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations, Labels: labels}}
}

func pod(namespace, name string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, UID: types.UID(namespace + "/" + name)},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	}
	for _, f := range change {
		f(p)
	}
	return p
}

// known is what a replica knows after it has read the cluster.
func known(t testing.TB, c *fake.Clientset) *settings {
	t.Helper()
	index := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})
	all, err := c.CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range all.Items {
		if err := index.Add(&all.Items[i]); err != nil {
			t.Fatal(err)
		}
	}
	s := &settings{
		client: c, namespace: "tulle", log: zap.NewNop(), counts: newCounts(prometheus.NewRegistry()), namespaces: corev1listers.NewNamespaceLister(index),
	}
	if err := s.learnVersion(); err != nil {
		t.Fatal(err)
	}
	cm, err := c.CoreV1().ConfigMaps("tulle").Get(t.Context(), config.ConfigMap, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.read(cm)
	return s
}

// review is what the API server sends about a pod.
func review(t testing.TB, p *corev1.Pod, change ...func(*admissionv1.AdmissionRequest)) []byte {
	t.Helper()
	raw, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	req := &admissionv1.AdmissionRequest{
		UID: "42", Operation: admissionv1.Create, Namespace: p.Namespace, Name: p.Name,
		Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"}, Object: runtime.RawExtension{Raw: raw},
	}
	for _, f := range change {
		f(req)
	}
	b, err := json.Marshal(admissionv1.AdmissionReview{TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: req})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// gauge is the value of a metric.
func gauge(t *testing.T, c prometheus.Collector) float64 {
	t.Helper()
	return testutil.ToFloat64(c)
}

// long is how long anything may take before it counts as stuck.
const long = 30 * time.Second

// until waits for something that no event tells of.
func until(ctx context.Context, t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(ctx, long)
	defer cancel()
	for !is() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("after %v there is still no %s", long, what)
		}
	}
}
