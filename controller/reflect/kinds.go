package reflect

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	typedcore "k8s.io/client-go/kubernetes/typed/core/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	policyv1alpha1 "github.com/tulle-mesh/tulle/api/policy/v1alpha1"
	"github.com/tulle-mesh/tulle/controller/convert"
	"github.com/tulle-mesh/tulle/controller/state"
	"github.com/tulle-mesh/tulle/controller/status"
)

// node is what is needed of a Node.
type node struct{ name, zone string }

// kinds makes every kind that the Reflector reads, in the order in which they are applied.
func (r *Reflector) kinds() []source {
	core := r.cfg.Client.CoreV1()
	domain := r.cfg.Store.Settings().TrustDomain
	namespaces := own(r, spec[corev1.Namespace, state.Namespace]{
		name: "Namespace", plural: "namespaces", example: &corev1.Namespace{},
		lists:   listerOf[*corev1.NamespaceList](r.cfg.Client, func(string) typedcore.NamespaceInterface { return core.Namespaces() }),
		convert: convert.Namespace, put: plain((*state.Tx).PutNamespace),
		remove: func(x *state.Tx, n state.Name) { x.DeleteNamespace(n.Name) },
	})
	r.pods = own(r, spec[corev1.Pod, state.Workload]{
		name: "Pod", plural: "pods", example: &corev1.Pod{}, lists: listerOf[*corev1.PodList](r.cfg.Client, core.Pods),
		convert: func(o *corev1.Pod) (*state.Workload, []status.Problem) { return convert.Pod(o, domain) },
		put:     r.putPod, remove: r.removePod,
		adopt: func(was, now *state.Workload) { now.Zone = was.Zone },
	})
	if r.cfg.PodsOnly {
		return []source{namespaces, r.pods}
	}
	nodes := own(r, spec[corev1.Node, node]{
		name: "Node", plural: "nodes", example: &corev1.Node{},
		lists: listerOf[*corev1.NodeList](r.cfg.Client, func(string) typedcore.NodeInterface { return core.Nodes() }),
		convert: func(o *corev1.Node) (*node, []status.Problem) {
			return &node{o.Name, o.Labels[corev1.LabelTopologyZone]}, nil
		},
		put:    func(_ *state.Tx, n *node) *node { r.setZone(n.name, n.zone); return n },
		remove: func(_ *state.Tx, n state.Name) { r.setZone(n.Name, "") },
	})
	services := own(r, spec[corev1.Service, state.Service]{
		name: "Service", plural: "services", example: &corev1.Service{}, lists: listerOf[*corev1.ServiceList](r.cfg.Client, core.Services),
		convert: service, put: plain((*state.Tx).PutService), remove: (*state.Tx).DeleteService,
	})
	slices := own(r, spec[discoveryv1.EndpointSlice, state.Slice]{
		name: "EndpointSlice", plural: "endpointslices", example: &discoveryv1.EndpointSlice{},
		lists:   listerOf[*discoveryv1.EndpointSliceList](r.cfg.Client, r.cfg.Client.DiscoveryV1().EndpointSlices),
		convert: convert.Slice, put: plain((*state.Tx).PutSlice), remove: (*state.Tx).DeleteSlice,
	})
	routes := own(r, spec[gatewayv1.HTTPRoute, state.Route]{
		name: "HTTPRoute", plural: "httproutes.gateway.networking.k8s.io", optional: true, example: &unstructured.Unstructured{},
		lists: r.custom(schema.GroupVersionResource{Group: gatewayv1.GroupName, Version: "v1", Resource: "httproutes"}), decode: decode[gatewayv1.HTTPRoute],
		convert: convert.Route, put: plain((*state.Tx).PutRoute), remove: (*state.Tx).DeleteRoute,
	})
	r.external = own(r, spec[policyv1alpha1.ExternalWorkload, state.Workload]{
		name: "ExternalWorkload", plural: "externalworkloads.policy.tulle.dev", optional: true, example: &unstructured.Unstructured{},
		lists:  r.custom(policyv1alpha1.GroupVersion().WithResource("externalworkloads")),
		decode: decode[policyv1alpha1.ExternalWorkload],
		convert: func(o *policyv1alpha1.ExternalWorkload) (*state.Workload, []status.Problem) {
			return convert.Workload(o, domain)
		},
		put: r.putExternal, remove: r.removeExternal,
	})
	return []source{namespaces, nodes, services, r.pods, slices, routes, r.external}
}

// service passes by what is DNS alone: whom an ExternalName names is dialled by its own address.
func service(o *corev1.Service) (*state.Service, []status.Problem) {
	if o.Spec.Type == corev1.ServiceTypeExternalName {
		return nil, nil
	}
	return convert.Service(o)
}

// own makes a kind of the Reflector's.
func own[O, R any](r *Reflector, s spec[O, R]) *kind[O, R] {
	return &kind[O, R]{
		spec: s, poke: r.poke, errors: r.metrics.watchErrors.WithLabelValues(s.name).Inc,
		held: make(map[string]held[R]), pending: make(map[string]bool),
	}
}

func plain[R any](put func(*state.Tx, *R)) func(*state.Tx, *R) *R {
	return func(x *state.Tx, row *R) *R { put(x, row); return row }
}

// custom lists a custom resource.
func (r *Reflector) custom(gvr schema.GroupVersionResource) lister {
	all := r.cfg.Dynamic.Resource(gvr)
	return listerOf[*unstructured.UnstructuredList](r.cfg.Dynamic, func(ns string) dynamic.ResourceInterface {
		if ns == metav1.NamespaceAll {
			return all
		}
		return all.Namespace(ns)
	})
}

func decode[O any](obj any) (*O, error) {
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("is a %T", obj)
	}
	var o O
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &o); err != nil {
		return nil, fmt.Errorf("does not fit its kind: %w", err)
	}
	return &o, nil
}

// putPod completes a pod's row with its node's zone.
func (r *Reflector) putPod(x *state.Tx, w *state.Workload) *state.Workload {
	if zone := r.zones[w.Node]; zone != w.Zone {
		c := *w
		c.Zone = zone
		w = &c
	}
	x.PutWorkload(w)
	return w
}

// setZone is called by the writer alone.
func (r *Reflector) setZone(name, zone string) {
	if r.zones[name] == zone {
		return
	}
	r.zones[name] = zone
	if zone == "" {
		delete(r.zones, name)
	}
	r.pods.again(func(_ string, w *state.Workload) bool { return w.Node == name })
}

// A pod and an ExternalWorkload of one name are one name to the mesh: the pod has it.

func (r *Reflector) removePod(x *state.Tx, n state.Name) {
	x.DeleteWorkload(n)
	if r.external != nil {
		r.external.again(func(key string, _ *state.Workload) bool { return key == n.String() })
	}
}

func (r *Reflector) putExternal(x *state.Tx, w *state.Workload) *state.Workload {
	if !r.pods.has(w.Name.String()) {
		x.PutWorkload(w)
	}
	return w
}

func (r *Reflector) removeExternal(x *state.Tx, n state.Name) {
	if !r.pods.has(n.String()) {
		x.DeleteWorkload(n)
	}
}
