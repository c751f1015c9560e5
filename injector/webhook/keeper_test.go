package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	kubetesting "k8s.io/client-go/testing"
)

func newKeeper(c *fake.Clientset, now *time.Time) *keeper {
	return &keeper{
		client: c, namespace: "tulle", now: func() time.Time { return *now }, log: zap.NewNop(),
		counts: newCounts(prometheus.NewRegistry()), wake: make(chan struct{}, 1),
	}
}

func hooks(t *testing.T, c *fake.Clientset) *admissionregistrationv1.MutatingWebhookConfiguration {
	t.Helper()
	cfg, err := c.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(t.Context(), WebhookConfig, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func keepOnce(t *testing.T, k *keeper) {
	t.Helper()
	if err := k.keep(t.Context()); err != nil || k.missing() != "" {
		t.Fatal(err, k.missing())
	}
}

// TestReplicasShareOneCertificate: the first one makes it, the second reads it, both rotate once.
func TestReplicasShareOneCertificate(t *testing.T) { // R13.1
	c, now := cluster(), start
	a, b := newKeeper(c, &now), newKeeper(c, &now)
	for _, k := range []*keeper{a, b} {
		if k.missing() == "" {
			t.Error("ready before there is a certificate")
		}
		keepOnce(t, k)
	}
	same := func() bool { return bytes.Equal(a.cert.Load().Certificate[0], b.cert.Load().Certificate[0]) }
	if !same() {
		t.Error("each has a certificate of its own")
	}
	first := a.cert.Load().Certificate[0]
	now = start.Add(60 * day)
	keepOnce(t, b)
	keepOnce(t, a)
	if n := authorities(hooks(t, c).Webhooks[1].ClientConfig.CABundle); n != 2 || !bytes.Equal(first, a.cert.Load().Certificate[0]) {
		t.Errorf("during a rotation the API server trusts %d authorities", n)
	}
	now = now.Add(settle)
	keepOnce(t, a)
	keepOnce(t, b)
	if !same() || bytes.Equal(first, a.cert.Load().Certificate[0]) {
		t.Error("the new certificate is not in use everywhere")
	}
}

// TestWhoLosesARaceTakesTheWinners: another replica writes between reading and writing.
func TestWhoLosesARaceTakesTheWinners(t *testing.T) {
	c, now := cluster(), start
	other, _, err := step(nil, names, start)
	if err != nil {
		t.Fatal(err)
	}
	resource := schema.GroupResource{Resource: "secrets"}
	c.PrependReactor("create", "secrets", func(kubetesting.Action) (bool, runtime.Object, error) {
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: Secret, Namespace: "tulle"}, Data: other}
		_ = c.Tracker().Add(s) // a second time it is there already
		return true, nil, apierrors.NewAlreadyExists(resource, Secret)
	})
	k := newKeeper(c, &now)
	keepOnce(t, k)
	if got := k.cert.Load(); got == nil || !usable(got, other[bundleKey], names, now) {
		t.Error("it does not use what the winner wrote")
	}
	conflicts := 0
	c.PrependReactor("update", "secrets", func(kubetesting.Action) (bool, runtime.Object, error) {
		if conflicts++; conflicts < 3 {
			return true, nil, apierrors.NewConflict(resource, Secret, errors.New("changed"))
		}
		return false, nil, nil
	})
	now = start.Add(61 * day)
	keepOnce(t, k)
	if conflicts != 3 || authorities(hooks(t, c).Webhooks[0].ClientConfig.CABundle) != 2 {
		t.Errorf("after %d conflicts", conflicts)
	}
}

// TestOnlyTheCABundleIsSet and nothing is written when it is right; somebody else's change is mended.
func TestOnlyTheCABundleIsSet(t *testing.T) { // R13.1
	c, now := cluster(), start
	k := newKeeper(c, &now)
	before := hooks(t, c)
	keepOnce(t, k)
	after := hooks(t, c)
	bundle := after.Webhooks[0].ClientConfig.CABundle
	if authorities(bundle) != 1 || !bytes.Equal(bundle, after.Webhooks[1].ClientConfig.CABundle) {
		t.Errorf("caBundle %q", bundle)
	}
	for i := range after.Webhooks {
		after.Webhooks[i].ClientConfig.CABundle = nil
	}
	a, err := json.Marshal(before.Webhooks)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(after.Webhooks)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Errorf("more than the caBundle has changed:\n%s\n%s", a, b)
	}
	c.ClearActions()
	keepOnce(t, k)
	for _, act := range c.Actions() {
		if act.GetVerb() != "get" {
			t.Errorf("%s %s although nothing was to be done", act.GetVerb(), act.GetResource().Resource)
		}
	}
	if _, err := c.AdmissionregistrationV1().MutatingWebhookConfigurations().Update(t.Context(), after, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	keepOnce(t, k)
	if got := hooks(t, c).Webhooks[1].ClientConfig.CABundle; !bytes.Equal(got, bundle) {
		t.Errorf("after somebody has taken it away: %q", got)
	}
}

func TestNotReadyWithoutAWebhookConfiguration(t *testing.T) {
	c, now := cluster(), start
	if err := c.AdmissionregistrationV1().MutatingWebhookConfigurations().Delete(t.Context(), WebhookConfig, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	k := newKeeper(c, &now)
	err := k.keep(t.Context())
	if err == nil || !strings.Contains(err.Error(), "read MutatingWebhookConfiguration tulle-injector") || !strings.Contains(k.missing(), "caBundle") {
		t.Error(err, k.missing())
	}
}
