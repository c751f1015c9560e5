package webhook

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"

	"github.com/tulle-mesh/tulle/injector/inject"
	"github.com/tulle-mesh/tulle/internal/logkey"
)

// mostBody bounds a question: an object of the API server's is at most 1.5 MiB, and may come twice.
const mostBody = 4 << 20

// admission answers the API server.
type admission struct {
	settings *settings
	recorder record.EventRecorder
	counts   *counts
	log      *zap.Logger
	now      func() time.Time
}

// ServeHTTP implements http.Handler.
func (a *admission) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := a.now()
	defer func() { a.counts.seconds.Observe(a.now().Sub(began).Seconds()) }()
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, mostBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	q, err := parse(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if why := a.settings.missing(); why != "" {
		http.Error(w, why, http.StatusServiceUnavailable) // the API server's failurePolicy holds
		return
	}
	reply, err := answer(q.uid, func(resp *admissionv1.AdmissionResponse) { a.decide(r, q, resp) })
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(reply) //nolint:errcheck // the API server left
}

// decide fills in the answer. It allows what it does not refuse.
func (a *admission) decide(r *http.Request, q *question, resp *admissionv1.AdmissionResponse) {
	if q.pod == nil {
		a.counts.admissions.WithLabelValues(passed, "").Inc()
		return
	}
	p, err := a.settings.params(r.Context(), q.namespace)
	if err != nil {
		a.refuse(q, resp, fmt.Errorf("namespace %s: %w", q.namespace, err))
		return
	}
	before := corev1.PodTemplateSpec{ObjectMeta: q.pod.ObjectMeta, Spec: q.pod.Spec}
	after, report, err := inject.Inject(before, p)
	if err != nil {
		a.refuse(q, resp, err)
		return
	}
	for _, n := range report.Notices {
		resp.Warnings = append(resp.Warnings, "tulle: "+n)
	}
	switch {
	case report.Reason != "":
		a.counts.admissions.WithLabelValues(skipped, string(report.Reason)).Inc()
		if report.IsWanted() {
			a.event(q, corev1.EventTypeWarning, eventSkipped, report.String())
		}
	case !report.Changed:
		a.counts.admissions.WithLabelValues(passed, "").Inc()
	default:
		if err := patch(resp, before, after); err != nil {
			a.refuse(q, resp, err)
			return
		}
		a.counts.admissions.WithLabelValues(injected, "").Inc()
		if len(report.Notices) > 0 {
			a.event(q, corev1.EventTypeNormal, eventNotice, strings.Join(about(report), "; "))
		}
	}
	a.log.Debug("admission", zap.String(logkey.Name, report.Object), zap.Bool("injected", report.Injected), zap.String(logkey.Reason, string(report.Reason)))
}

// about are the notices, with the object's name where they have none.
func about(r inject.Report) []string {
	var all []string
	for _, n := range r.Notices {
		if !strings.Contains(n, r.Object) {
			n = r.Object + ": " + n
		}
		all = append(all, n)
	}
	return all
}

func patch(resp *admissionv1.AdmissionResponse, before, after corev1.PodTemplateSpec) error {
	steps, err := inject.Patch(before, after)
	if err != nil {
		return err
	}
	if resp.Patch, err = json.Marshal(steps); err != nil {
		return fmt.Errorf("write the patch: %w", err)
	}
	resp.PatchType = new(admissionv1.PatchTypeJSONPatch)
	return nil
}

// refuse has the API server tell its client why.
func (a *admission) refuse(q *question, resp *admissionv1.AdmissionResponse, err error) {
	a.counts.admissions.WithLabelValues(refused, "").Inc()
	a.event(q, corev1.EventTypeWarning, eventRefused, err.Error())
	resp.Allowed, resp.Patch, resp.PatchType = false, nil, nil
	resp.Result = &metav1.Status{
		Status: metav1.StatusFailure, Message: err.Error(), Reason: metav1.StatusReasonInvalid, Code: http.StatusUnprocessableEntity,
	}
}

// event tells those who look at the cluster; a dry run leaves no trace.
func (a *admission) event(q *question, kind, reason, message string) {
	if !q.dryRun {
		a.recorder.Event(subject(q.pod, q.namespace), kind, reason, message)
	}
}
