package webhook

import (
	"encoding/json"
	"errors"
	"fmt"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// question is what the API server asks.
type question struct {
	uid       types.UID
	pod       *corev1.Pod // nil: the question is not about a new pod
	namespace string
	dryRun    bool
}

// parse reads an AdmissionReview.
func parse(body []byte) (*question, error) {
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(body, &review); err != nil {
		return nil, fmt.Errorf("AdmissionReview: %w", err)
	}
	if review.APIVersion != admissionv1.SchemeGroupVersion.String() || review.Kind != "AdmissionReview" {
		return nil, fmt.Errorf("want an AdmissionReview of %s, got %q of %q", admissionv1.SchemeGroupVersion, review.Kind, review.APIVersion)
	}
	req := review.Request
	if req == nil || req.UID == "" {
		return nil, errors.New("AdmissionReview: the request, or its uid, is missing")
	}
	q := &question{uid: req.UID, namespace: req.Namespace, dryRun: req.DryRun != nil && *req.DryRun}
	pods := metav1.GroupVersionResource{Version: "v1", Resource: "pods"}
	if req.Resource != pods || req.SubResource != "" || req.Operation != admissionv1.Create {
		return q, nil
	}
	q.pod = &corev1.Pod{}
	if err := json.Unmarshal(req.Object.Raw, q.pod); err != nil {
		return nil, fmt.Errorf("pod: %w", err)
	}
	if q.namespace == "" {
		return nil, errors.New("AdmissionReview: the pod's namespace is missing")
	}
	return q, nil
}

// answer is what the API server is told.
func answer(uid types.UID, fill func(*admissionv1.AdmissionResponse)) ([]byte, error) {
	resp := &admissionv1.AdmissionResponse{UID: uid, Allowed: true}
	fill(resp)
	b, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "AdmissionReview"},
		Response: resp,
	})
	if err != nil {
		return nil, fmt.Errorf("write the AdmissionReview: %w", err)
	}
	return b, nil
}
