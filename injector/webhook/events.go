package webhook

import (
	"context"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"
)

// Reasons of events.
const (
	eventSkipped = "InjectionSkipped"
	eventRefused = "InjectionRefused"
	eventNotice  = "InjectionNotice"
	eventMissing = "ProxyMissing"
)

// newRecorder writes events until stop. It aggregates what repeats.
func newRecorder(ctx context.Context, client kubernetes.Interface, log *zap.Logger) (r record.EventRecorder, stop func()) {
	b := record.NewBroadcaster(record.WithContext(ctx))
	b.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	log.Debug("events are written")
	return b.NewRecorder(scheme.Scheme, corev1.EventSource{Component: Service}), b.Shutdown
}

// subject is whom an event about a new pod is of: the pod is not there yet, so it is its controller, whom
// `kubectl describe` shows, or else its Namespace.
func subject(pod *corev1.Pod, namespace string) runtime.Object {
	if o := metav1.GetControllerOf(pod); o != nil {
		return &corev1.ObjectReference{APIVersion: o.APIVersion, Kind: o.Kind, Name: o.Name, UID: o.UID, Namespace: namespace}
	}
	// Events of objects without a namespace are kept in "default"; the field says which one is meant.
	return &corev1.ObjectReference{APIVersion: "v1", Kind: "Namespace", Name: namespace, Namespace: namespace}
}
