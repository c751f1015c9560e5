package webhook

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"

	"github.com/tulle-mesh/tulle/injector/inject"
)

// missed is the reason of a pod that would be injected if it were created now; refusedNow that of one that
// would be refused.
const (
	missed     = "missed"
	refusedNow = "refused"
)

// sweep looks for pods that should have a proxy and have none (R13.1): created while no injector answered
// and the failurePolicy was Ignore, before their Namespace was annotated, or left alone for a reason.
type sweep struct {
	client   kubernetes.Interface
	settings *settings
	recorder record.EventRecorder
	log      *zap.Logger
	counts   *counts
	every    time.Duration

	told map[types.UID]bool // pods that have had their event
}

// run sweeps until ctx ends.
func (s *sweep) run(ctx context.Context) error {
	t := time.NewTicker(s.every)
	defer t.Stop()
	defer s.counts.missing.Reset() // another replica counts now
	for {
		if s.settings.missing() == "" {
			if err := s.once(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn("pods without a proxy cannot be looked for", zap.Error(err))
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// once looks at every pod.
func (s *sweep) once(ctx context.Context) error {
	found, told := map[string]int{missed: 0, refusedNow: 0}, map[types.UID]bool{}
	for _, r := range inject.Reasons() {
		if (&inject.Report{Reason: r}).IsWanted() {
			found[string(r)] = 0
		}
	}
	opts := metav1.ListOptions{Limit: 500}
	for {
		page, err := s.client.CoreV1().Pods("").List(ctx, opts)
		if err != nil {
			return fmt.Errorf("list pods: %w", err)
		}
		for i := range page.Items {
			pod := &page.Items[i]
			reason, message := s.look(ctx, pod)
			if reason == "" {
				continue
			}
			found[reason]++
			told[pod.UID] = true
			if !s.told[pod.UID] {
				s.recorder.Event(pod, corev1.EventTypeWarning, eventMissing, message)
			}
		}
		if opts.Continue = page.Continue; opts.Continue == "" {
			break
		}
	}
	s.told = told
	for reason, n := range found {
		s.counts.missing.WithLabelValues(reason).Set(float64(n))
	}
	return nil
}

// look says why a pod that should have a proxy has none, "" when all is well.
func (s *sweep) look(ctx context.Context, pod *corev1.Pod) (reason, message string) {
	over := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
	if over || pod.DeletionTimestamp != nil || pod.Annotations[inject.AnnotationInjected] != "" {
		return "", ""
	}
	p, err := s.settings.params(ctx, pod.Namespace)
	if err != nil || p.Namespace.Name == "kube-system" || p.Namespace.Name == p.Mesh.Namespace {
		return "", ""
	}
	_, report, err := inject.Inject(corev1.PodTemplateSpec{ObjectMeta: pod.ObjectMeta, Spec: pod.Spec}, p)
	switch {
	case err != nil:
		return refusedNow, "it has no proxy, and would be refused if it were created now: " + err.Error()
	case report.IsWanted():
		return string(report.Reason), "it has no proxy: " + report.Why
	case report.Reason == "" && report.Injected:
		return missed, "it has no proxy although " + inject.AnnotationInject + " asks for one: it was created before that, or while the injector was not asked; " +
			"restart it, as with kubectl rollout restart"
	}
	return "", ""
}
