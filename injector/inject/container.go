package inject

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tulle-mesh/tulle/injector/config"
)

// Programs in the proxy's image.
const (
	proxyCommand = "/tulle-proxy"
	initCommand  = "/tulle-init"
)

// initContainer writes the redirect (R13.3): root with NET_ADMIN alone.
func (b *builder) initContainer() corev1.Container {
	root := int64(0)
	args := []string{
		"--inbound-port", strconv.Itoa(InboundPort), "--outbound-port", strconv.Itoa(OutboundPort),
		"--proxy-uid", b.set.Text(config.ProxyUID),
	}
	for _, a := range []struct{ flag, name string }{
		{"--skip-inbound-ports", config.SkipInboundPorts},
		{"--skip-outbound-ports", config.SkipOutboundPorts},
		{"--skip-subnets", config.SkipSubnets},
	} {
		if v := b.set.Text(a.name); v != "" {
			args = append(args, a.flag, v)
		}
	}
	if b.native && b.set.IsEnabled(config.Await) {
		args = append(args, "--await", fmt.Sprintf("http://127.0.0.1:%d/ready", AdminPort))
	}
	return corev1.Container{
		Name: InitContainer, Image: b.image(), ImagePullPolicy: b.pull(),
		Command: []string{initCommand}, Args: args, Resources: b.resources(),
		VolumeMounts:             []corev1.VolumeMount{noToken()},
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		SecurityContext: &corev1.SecurityContext{
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_ADMIN"}},
			Privileged:   new(false), AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
			RunAsUser: &root, RunAsGroup: &root, RunAsNonRoot: new(false),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
	}
}

// proxyContainer is the proxy (R13.2, R13.4); it is all that the "restricted" Pod Security level asks for.
func (b *builder) proxyContainer() corev1.Container {
	uid := int64(b.set.Number(config.ProxyUID))
	c := corev1.Container{
		Name: ProxyContainer, Image: b.image(), ImagePullPolicy: b.pull(), Command: []string{proxyCommand},
		Ports: []corev1.ContainerPort{
			{Name: "tulle-inbound", ContainerPort: InboundPort, Protocol: corev1.ProtocolTCP},
			{Name: "tulle-admin", ContainerPort: AdminPort, Protocol: corev1.ProtocolTCP},
		},
		Env: b.environment(), Resources: b.resources(),
		VolumeMounts: []corev1.VolumeMount{
			{Name: TokenVolume, MountPath: tokenDir, ReadOnly: true},
			{Name: TrustVolume, MountPath: trustDir, ReadOnly: true},
			noToken(),
		},
		LivenessProbe: own("/live", 10, 3), ReadinessProbe: own("/ready", 2, 3),
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		SecurityContext: &corev1.SecurityContext{
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			Privileged:   new(false), AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
			RunAsUser: &uid, RunAsGroup: &uid, RunAsNonRoot: new(true),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
	}
	if b.native {
		c.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
	} else {
		c.Lifecycle = b.hooks()
	}
	return c
}

// hooks are those of a proxy that is an ordinary container: what it does not do before the application
// starts, and does after the application was told to end.
func (b *builder) hooks() *corev1.Lifecycle {
	var l corev1.Lifecycle
	if b.set.IsEnabled(config.Await) {
		l.PostStart = &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{proxyCommand, "await", "--timeout", "2m"}}}
	}
	if seconds := b.sleep(); seconds > 0 {
		l.PreStop = sleepFor(seconds) // no shorter than the application's: it serves as long as that does
	}
	if l.PostStart == nil && l.PreStop == nil {
		return nil
	}
	return &l
}

// own is a probe of the proxy. It may take long: a node that is overloaded gets no better by restarts of all its
// proxies.
func own(path string, period, failures int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt32(AdminPort)}},
		PeriodSeconds: period, FailureThreshold: failures, TimeoutSeconds: 10,
	}
}

func (b *builder) image() string {
	name, v := b.set.Text(config.ProxyImage), b.set.Text(config.ProxyVersion)
	if strings.HasPrefix(v, "sha256:") {
		return name + "@" + v
	}
	return name + ":" + v
}

func (b *builder) pull() corev1.PullPolicy { return corev1.PullPolicy(b.set.Text(config.PullPolicy)) }

// resources are the same for both containers: a quota or a Guaranteed pod wants them of each, and an init
// container's are not added to the others'.
func (b *builder) resources() corev1.ResourceRequirements {
	if b.pod.Spec.Resources != nil {
		return corev1.ResourceRequirements{} // the pod's own hold for all; a container's would have to fit
	}
	list := func(cpu, memory string) corev1.ResourceList {
		var l corev1.ResourceList
		add := func(name corev1.ResourceName, setting string) {
			if v := b.set.Text(setting); v != "" {
				if l == nil {
					l = corev1.ResourceList{}
				}
				l[name] = resource.MustParse(v)
			}
		}
		add(corev1.ResourceCPU, cpu)
		add(corev1.ResourceMemory, memory)
		return l
	}
	r := corev1.ResourceRequirements{
		Requests: list(config.CPURequest, config.MemoryRequest), Limits: list(config.CPULimit, config.MemoryLimit),
	}
	for name, limit := range r.Limits { // a request over a limit is refused; the limit is what was said
		if request, ok := r.Requests[name]; ok && request.Cmp(limit) > 0 {
			r.Requests[name] = limit
		}
	}
	return r
}

// environment is what docs/proxy.md lists.
func (b *builder) environment() []corev1.EnvVar {
	m := b.p.Mesh
	field := func(name, path string) corev1.EnvVar {
		return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}}
	}
	env := []corev1.EnvVar{
		field("TULLE_POD_NAME", "metadata.name"),
		field("TULLE_POD_NAMESPACE", "metadata.namespace"),
		field("TULLE_POD_ACCOUNT", "spec.serviceAccountName"),
		field("TULLE_POD_IPS", "status.podIPs"),
		// KEP-4742: the zone of the node is a label of the pod from Kubernetes 1.33 on, else this is empty.
		field("TULLE_ZONE", "metadata.labels['topology.kubernetes.io/zone']"),
	}
	set := func(name, value string) { env = append(env, corev1.EnvVar{Name: name, Value: value}) }
	set("TULLE_WORKLOAD", "$(TULLE_POD_NAMESPACE)/$(TULLE_POD_NAME)")
	set("TULLE_IDENTITY", "spiffe://"+literal(m.TrustDomain)+"/ns/$(TULLE_POD_NAMESPACE)/sa/$(TULLE_POD_ACCOUNT)")
	owner := b.p.Owner
	if owner == "" {
		owner = Owner(&b.pod.ObjectMeta)
	}
	if owner != "" {
		set("TULLE_DEPLOYMENT", literal(owner))
	}
	set("TULLE_IDENTITY_ADDR", literal(m.Address("tulle-identity", 8080)))
	set("TULLE_IDENTITY_NAME", literal(m.Identity("tulle-identity")))
	set("TULLE_DESTINATION_ADDR", literal(m.Address("tulle-destination", 8086)))
	set("TULLE_DESTINATION_NAME", literal(m.Identity("tulle-destination")))
	set("TULLE_TOKEN_FILE", tokenDir+"/token")
	set("TULLE_TRUST_BUNDLE_DIR", trustDir)
	set("TULLE_INBOUND_LISTEN", fmt.Sprintf("[::]:%d", InboundPort))
	set("TULLE_OUTBOUND_LISTEN", fmt.Sprintf("[::]:%d", OutboundPort))
	set("TULLE_ADMIN_LISTEN", fmt.Sprintf("[::]:%d", AdminPort))
	if len(m.ClusterNetworks) > 0 {
		var all []string
		for _, n := range m.ClusterNetworks {
			all = append(all, n.String())
		}
		set("TULLE_CLUSTER_NETWORKS", strings.Join(all, ","))
	}
	set("GOMAXPROCS", strconv.Itoa(b.set.Number(config.Workers)+1))
	if limit := b.set.Text(config.MemoryLimit); limit != "" && b.pod.Spec.Resources == nil {
		q := resource.MustParse(limit)
		set("GOMEMLIMIT", strconv.FormatInt(q.Value()/10*9, 10)) // the rest is code, stacks of the kernel and slack
	}
	for _, v := range b.set.Environment() {
		set(v.Name, literal(v.Value))
	}
	if b.native && b.set.Key(config.Drain, "lame-duck") == "" {
		// It is told to end after the application has ended (R11.2): there is nobody left to accept for.
		set("TULLE_LAME_DUCK", "1ms")
	}
	if b.set.Key(config.Drain, "timeout") == "" {
		set("TULLE_DRAIN_TIMEOUT", b.drain().String())
	}
	if len(b.probes) > 0 {
		set("TULLE_PROBES", literal(b.probes.String()))
	}
	return env
}

// drain is the pod's grace less what is slept before SIGTERM and 5 s (R11.2).
func (b *builder) drain() time.Duration {
	return time.Duration(max(b.grace()-b.sleep()-5, 1)) * time.Second
}

// noToken keeps the admission of service accounts from mounting the pod's token for the Kubernetes API:
// neither the proxy nor tulle-init speaks to it.
func noToken() corev1.VolumeMount {
	return corev1.VolumeMount{Name: NoTokenVolume, MountPath: "/var/run/secrets/kubernetes.io/serviceaccount", ReadOnly: true}
}

// literal keeps the kubelet from expanding $(NAME) in a value.
func literal(s string) string { return strings.ReplaceAll(s, "$", "$$") }

// volumes are the token that proves who the workload is, and the roots to begin with.
func volumes() []corev1.Volume {
	seconds := int64(3600)
	return []corev1.Volume{
		{Name: TokenVolume, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
			Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
				Audience: TokenAudience, ExpirationSeconds: &seconds, Path: "token",
			}}},
		}}},
		{Name: TrustVolume, VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: TrustConfigMap},
		}}},
		{Name: NoTokenVolume, VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{}}},
	}
}
