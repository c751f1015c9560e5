package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	corev1listers "k8s.io/client-go/listers/core/v1"

	"github.com/tulle-mesh/tulle/injector/config"
	"github.com/tulle-mesh/tulle/injector/inject"
	"github.com/tulle-mesh/tulle/internal/logkey"
)

// annotationMirrored on a Namespace says that its label is the mirror's.
const annotationMirrored = "tulle.dev/mirrored"

// mirror makes each Namespace's label say what its annotation says (R13.1): the API server selects by
// labels alone, and which failurePolicy holds depends on that.
type mirror struct {
	client     kubernetes.Interface
	namespaces corev1listers.NamespaceLister
	log        *zap.Logger
	counts     *counts
	wake       chan struct{}
}

func (m *mirror) changed() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// run mirrors until ctx ends.
func (m *mirror) run(ctx context.Context) error {
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.wake:
		case <-retry.C:
		}
		if err := m.all(ctx); err != nil && ctx.Err() == nil {
			m.log.Warn("a namespace's label does not say what its annotation says", zap.Error(err))
			retry.Reset(5 * time.Second)
		}
	}
}

// all looks at every Namespace and returns the first error after trying them all.
func (m *mirror) all(ctx context.Context) (first error) {
	all, err := m.namespaces.List(labels.Everything())
	if err != nil {
		return fmt.Errorf("list namespaces: %w", err)
	}
	for _, ns := range all {
		patch := mirrorPatch(ns)
		if patch == nil {
			continue
		}
		_, err := m.client.CoreV1().Namespaces().Patch(ctx, ns.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: Service})
		switch {
		case apierrors.IsNotFound(err):
		case err != nil && first == nil:
			first = fmt.Errorf("namespace %s: %w", ns.Name, err)
		case err == nil:
			m.counts.mirrored.Inc()
			m.log.Info("namespace's annotation mirrored in its label", zap.String(logkey.Namespace, ns.Name))
		}
	}
	return first
}

// mirrorPatch is what must change in a Namespace, nil for nothing. A label that somebody set by hand stays
// where there is no annotation.
func mirrorPatch(ns *corev1.Namespace) []byte {
	want, said := ns.Annotations[inject.AnnotationInject]
	label, labelled := ns.Labels[inject.AnnotationInject]
	mirrored, ours := ns.Annotations[annotationMirrored]
	set := func(label, mark any) []byte {
		b, err := json.Marshal(map[string]any{"metadata": map[string]any{
			"labels": map[string]any{inject.AnnotationInject: label}, "annotations": map[string]any{annotationMirrored: mark},
		}})
		if err != nil {
			panic("BUG: a patch cannot be written: " + err.Error())
		}
		return b
	}
	switch {
	case ns.DeletionTimestamp != nil:
		return nil
	case said && want != config.Enabled && want != config.Disabled:
		return nil // admission refuses pods with the reason
	case said && (!labelled || label != want):
		return set(want, want)
	case !said && ours && labelled && label == mirrored:
		return set(nil, nil)
	}
	return nil
}
