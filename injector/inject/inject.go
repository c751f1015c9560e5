package inject

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/tulle-mesh/tulle/injector/config"
	"github.com/tulle-mesh/tulle/internal/version"
)

// Inject returns pod with a proxy, and what it did and why. A pod that is to be left alone comes back as
// it was, with a reason. An error means that the pod asks for what cannot be: it must not run without
// what its operator wanted, and the message is for them. The argument is not changed.
func Inject(pod corev1.PodTemplateSpec, p Params) (corev1.PodTemplateSpec, Report, error) {
	r := Report{Object: p.object(&pod)}
	out := *pod.DeepCopy()
	before, isOurs, err := restored(out)
	if err != nil {
		return pod, r, fmt.Errorf("%s: %w", r.Object, err)
	}
	asked, err := p.asked(&before, r.Object)
	if err != nil {
		return pod, r, err
	}
	r.Injected = isOurs
	if isOurs && asked.from == "" && !p.Force {
		return pod, r, nil // by hand, and nothing asks to have it done again
	}
	if reason, why := p.leaveAlone(&before, asked); reason != "" {
		r.skip(reason, why)
		return pod, r, nil
	}
	settings, notices, err := p.settings(&before, r.Object)
	for _, n := range notices {
		r.notef("%s", n)
	}
	if err != nil {
		return pod, r, err
	}
	r.Settings = settings.All()
	b := builder{pod: &before, p: &p, set: settings, report: &r}
	if err := b.check(); err != nil {
		return pod, r, fmt.Errorf("%s: %w", r.Object, err)
	}
	b.build()
	r.Injected, r.Changed = true, !equal(&pod, &before)
	return before, r, nil
}

// settings puts the pod's annotations over its Namespace's.
func (p *Params) settings(pod *corev1.PodTemplateSpec, object string) (*config.Settings, []config.Notice, error) {
	return p.Mesh.Resolve(
		config.Layer{From: config.FromNamespace, Object: "namespace " + p.Namespace.Name, Annotations: p.Namespace.Annotations},
		config.Layer{From: config.FromPod, Object: object, Annotations: pod.Annotations},
	)
}

func (p *Params) object(pod *corev1.PodTemplateSpec) string {
	if p.Object != "" {
		return p.Object
	}
	name := pod.Name
	if name == "" {
		name = pod.GenerateName + "…"
	}
	return "pod " + p.Namespace.Name + "/" + name
}

// builder changes one pod.
type builder struct {
	pod    *corev1.PodTemplateSpec
	p      *Params
	set    *config.Settings
	report *Report

	native bool
	undo   original
	probes probeSet
}

func (b *builder) build() {
	b.native = b.isNative()
	b.rewriteProbes()
	b.sleepBeforeStop()
	b.addVolumes()
	b.addContainers()
	b.describe()
	b.notices()
}

// isNative decides whether the proxy is a native sidecar (R13.2).
func (b *builder) isNative() bool {
	switch b.set.Text(config.NativeSidecar) {
	case config.Enabled:
		return true
	case config.Disabled:
		return false
	}
	return b.p.Cluster.hasNativeSidecars()
}

// addContainers puts tulle-init and the proxy where they belong. A native sidecar runs before the
// application's own init containers and serves them. tulle-init comes after it and ends when it is ready:
// the kubelet sees within a second that a container runs or has ended, where a startup probe of the proxy
// would cost another second or two (docs/decisions/0009-proxy-before-redirect.md). An ordinary one starts
// after the init containers, so that the redirect must come after them, too.
func (b *builder) addContainers() {
	spec := &b.pod.Spec
	redirect, proxy := b.initContainer(), b.proxyContainer()
	if b.native {
		spec.InitContainers = append([]corev1.Container{proxy, redirect}, spec.InitContainers...)
		return
	}
	spec.InitContainers = append(spec.InitContainers, redirect)
	spec.Containers = append([]corev1.Container{proxy}, spec.Containers...)
}

func (b *builder) addVolumes() {
	b.pod.Spec.Volumes = append(b.pod.Spec.Volumes, volumes()...)
}

// describe writes what others read of an injected pod, and what Uninject needs.
func (b *builder) describe() {
	b.undo.label(&b.pod.ObjectMeta, LabelProxy, "true")
	owner := b.p.Owner
	if owner == "" {
		owner = Owner(&b.pod.ObjectMeta)
	}
	if _, said := b.pod.Labels[LabelDeployment]; !said && isLabel(owner) {
		b.undo.label(&b.pod.ObjectMeta, LabelDeployment, owner)
	}
	// Discovery reads of the pod itself what its own redirect was told (R5.6): a Namespace may say
	// something else later.
	if skip := b.set.Get(config.SkipInboundPorts); skip.From != config.FromPod && skip.Text != "" {
		b.undo.annotation(&b.pod.ObjectMeta, config.Prefix+config.SkipInboundPorts, skip.Text)
	}
	if !b.native && b.pod.Annotations[defaultContainer] == "" && len(b.pod.Spec.Containers) > 1 {
		b.undo.annotation(&b.pod.ObjectMeta, defaultContainer, b.pod.Spec.Containers[1].Name)
	}
	b.undo.annotation(&b.pod.ObjectMeta, AnnotationInjected, version.Number())
	b.undo.write(&b.pod.ObjectMeta)
}

// defaultContainer is what kubectl logs and exec choose; else it is the first one, the proxy.
const defaultContainer = "kubectl.kubernetes.io/default-container"

// check refuses what must not be injected and must not run without a proxy either.
func (b *builder) check() error {
	var errs []string
	uid := int64(b.set.Number(config.ProxyUID))
	runsAs := func(where string, u *int64) {
		if u != nil && *u == uid {
			errs = append(errs, fmt.Sprintf("%s runs as user %d, which is the proxy's: nothing that it dials would be redirected; "+
				"give one of them another user (%s%s)", where, uid, config.Prefix, config.ProxyUID))
		}
	}
	spec := &b.pod.Spec
	if s := spec.SecurityContext; s != nil {
		runsAs("the pod", s.RunAsUser)
	}
	for _, c := range b.containers() {
		if c.SecurityContext != nil {
			runsAs("container "+c.Name, c.SecurityContext.RunAsUser)
		}
	}
	for _, v := range spec.Volumes {
		if slices.Contains(volumeNames, v.Name) {
			errs = append(errs, fmt.Sprintf("it has a volume %s of its own: Tulle needs the name", v.Name))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return errors.New(strings.Join(errs, "; "))
}

// containers are the application's, init containers first.
func (b *builder) containers() []*corev1.Container {
	var all []*corev1.Container
	for i := range b.pod.Spec.InitContainers {
		all = append(all, &b.pod.Spec.InitContainers[i])
	}
	for i := range b.pod.Spec.Containers {
		all = append(all, &b.pod.Spec.Containers[i])
	}
	return all
}
