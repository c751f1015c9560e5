package convert

import (
	"cmp"
	"fmt"
	"slices"

	policyv1alpha1 "github.com/tulle-mesh/tulle/api/policy/v1alpha1"
	"github.com/tulle-mesh/tulle/controller/state"
	"github.com/tulle-mesh/tulle/controller/status"
	"github.com/tulle-mesh/tulle/internal/mesh"
)

// Workload makes the row of an ExternalWorkload, whose identity is of the trust domain.
func Workload(o *policyv1alpha1.ExternalWorkload, trustDomain string) (*state.Workload, []status.Problem) {
	var p problems
	account := cmp.Or(o.Spec.ServiceAccount, "default")
	w := &state.Workload{
		Name: state.Name{Namespace: o.Namespace, Name: o.Name}, Labels: o.Labels,
		Proxied: o.Spec.Proxied == nil || *o.Spec.Proxied, Terminating: o.Spec.Terminating,
		Weight: 1, Zone: o.Spec.Zone, Node: o.Spec.Node,
		Deployment: cmp.Or(o.Spec.Deployment, o.Labels["app.kubernetes.io/name"], o.Labels["app"]),
		Rules:      p.rules(o.Annotations),
	}
	id, err := mesh.ParseIdentity(string(mesh.NewIdentity(trustDomain, o.Namespace, account)))
	if err != nil {
		p.brokenf("spec.serviceAccount", "%v", err)
	}
	w.Identity = id
	if n := o.Spec.Weight; n != nil {
		if *n < 1 || *n > 1_000_000 {
			p.brokenf("spec.weight", "%d: want 1 to 1000000", *n)
		}
		w.Weight = uint32(*n)
	}
	if len(o.Spec.Addresses) == 0 {
		p.brokenf("spec.addresses", "is empty: a workload has at least one")
	}
	for i, s := range o.Spec.Addresses {
		if a, ok := p.addr(fmt.Sprintf("spec.addresses[%d]", i), s); ok && !slices.Contains(w.Addrs, a) {
			w.Addrs = append(w.Addrs, a)
		}
	}
	if len(o.Spec.Ports) == 0 {
		p.brokenf("spec.ports", "is empty: a workload has at least one")
	}
	for i := range o.Spec.Ports {
		p.workloadPort(w, fmt.Sprintf("spec.ports[%d]", i), &o.Spec.Ports[i])
	}
	if p.isBroken() {
		return nil, p
	}
	return w, p
}

func (p *problems) workloadPort(w *state.Workload, field string, o *policyv1alpha1.ExternalWorkloadPort) {
	port, ok := p.port(field+".port", o.Port)
	if !ok {
		return
	}
	if slices.ContainsFunc(w.Ports, func(q state.WorkloadPort) bool { return q.Port == port }) {
		p.brokenf(field+".port", "%d is there twice", port)
		return
	}
	w.Ports = append(w.Ports, state.WorkloadPort{
		Name: o.Name, Port: port, Protocol: p.protocol(field+".appProtocol", o.AppProtocol),
		Skipped: o.Meshed != nil && !*o.Meshed,
	})
}
