package check

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"github.com/tulle-mesh/tulle/cli/mesh"
)

// door is a port that every proxy dials.
type door struct {
	name     string
	port     int32
	protocol corev1.Protocol
	pods     []corev1.Pod
}

// doors are those of the control plane, and the DNS that finds it by name.
func (e *env) doors(ctx context.Context, control map[string][]corev1.Pod) ([]door, error) {
	all := []door{
		{mesh.Identity, mesh.IdentityPort, corev1.ProtocolTCP, control[mesh.Identity]},
		{mesh.Destination, mesh.DestinationPort, corev1.ProtocolTCP, control[mesh.Destination]},
	}
	pods, err := e.pods(ctx)
	if err != nil {
		return nil, err
	}
	dns, err := e.Kube.DiscoveryV1().EndpointSlices(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=kube-dns"})
	if err != nil {
		return nil, e.Explain("list the endpoints of DNS", err)
	}
	for i := range dns.Items {
		served := podsOf(&dns.Items[i], pods)
		for _, p := range dns.Items[i].Ports {
			if p.Port != nil && p.Protocol != nil && *p.Protocol == corev1.ProtocolUDP && len(served) > 0 {
				return append(all, door{"DNS", *p.Port, corev1.ProtocolUDP, served}), nil
			}
		}
	}
	return all, nil // a DNS of another name, or on the nodes themselves: nothing is known of it
}

// podsOf are the pods that a slice leads to.
func podsOf(s *discoveryv1.EndpointSlice, pods []corev1.Pod) []corev1.Pod {
	var out []corev1.Pod
	for i := range pods {
		if slices.ContainsFunc(s.Endpoints, func(ep discoveryv1.Endpoint) bool {
			return ep.TargetRef != nil && ep.TargetRef.Kind == "Pod" && ep.TargetRef.Name == pods[i].Name && s.Namespace == pods[i].Namespace
		}) {
			out = append(out, pods[i])
		}
	}
	return out
}

// wall knows the NetworkPolicies of a cluster as the API says they work. Whether a network plugin
// enforces them it does not know.
type wall struct {
	policies   []networkingv1.NetworkPolicy
	namespaces map[string]*corev1.Namespace
}

// networkPolicies follows each way that the mesh needs: from every proxy to the control plane and to the
// cluster's DNS, and from the API server to the injector.
func networkPolicies(ctx context.Context, e *env) Finding {
	l, err := e.Kube.NetworkingV1().NetworkPolicies("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return unknown(e.Explain("list NetworkPolicies", err))
	}
	if len(l.Items) == 0 {
		return ok("there are none")
	}
	namespaces, err := e.namespaces(ctx)
	if err != nil {
		return unknown(err)
	}
	pods, err := e.meshed(ctx)
	if err != nil {
		return unknown(err)
	}
	control, err := e.expected(ctx)
	if err != nil {
		return unknown(err)
	}
	doors, err := e.doors(ctx, control)
	if err != nil {
		return unknown(err)
	}
	w := &wall{l.Items, namespaces}
	f := Finding{Status: OK, Note: "of " + count(len(perNamespace(l.Items)), "namespace")}
	var fixes []networkingv1.NetworkPolicy
	clients := perOwner(pods)
	for _, p := range clients {
		if cut := w.cutEgress(p, doors); len(cut) > 0 {
			f.Problems = append(f.Problems, fmt.Sprintf("%s may not reach %s", owner(p), strings.Join(cut, " and ")))
			fixes = addFix(fixes, egressFix(p.Namespace, e.Tulle, doors))
		}
	}
	closed, fix := w.cutIngress(clients, doors[:2], control[mesh.Injector], e.Tulle)
	f.Problems = append(f.Problems, closed...)
	if len(f.Problems) > 0 {
		f.Status = Failure
		if fix != nil {
			fixes = addFix(fixes, *fix)
		}
		f.Fix = manifests(fixes)
	}
	return f
}

func perNamespace(policies []networkingv1.NetworkPolicy) map[string]bool {
	seen := map[string]bool{}
	for i := range policies {
		seen[policies[i].Namespace] = true
	}
	return seen
}

// perOwner keeps one pod of each owner: their labels, which policies select by, are the same.
func perOwner(pods []corev1.Pod) []*corev1.Pod {
	var out []*corev1.Pod
	seen := map[string]bool{}
	for i := range pods {
		if o := owner(&pods[i]); !seen[o] {
			seen[o] = true
			out = append(out, &pods[i])
		}
	}
	return out
}

func (w *wall) cutEgress(p *corev1.Pod, doors []door) []string {
	var cut []string
	for _, d := range doors {
		if slices.ContainsFunc(d.pods, func(to corev1.Pod) bool { return !w.leaves(p, &to, d) }) {
			cut = append(cut, fmt.Sprintf("%s:%d", d.name, d.port))
		}
	}
	return cut
}

// cutIngress asks whether clients may enter the control plane, and the API server the injector.
func (w *wall) cutIngress(clients []*corev1.Pod, doors []door, injector []corev1.Pod, tulle string) ([]string, *networkingv1.NetworkPolicy) {
	var problems []string
	for _, d := range doors {
		for i := range d.pods {
			j := slices.IndexFunc(clients, func(c *corev1.Pod) bool { return !w.enters(c, &d.pods[i], d) })
			if j >= 0 {
				problems = append(problems, fmt.Sprintf("%s may not be entered on port %d by %s", d.name, d.port, owner(clients[j])))
				break
			}
		}
	}
	webhook := door{mesh.Injector, 8443, corev1.ProtocolTCP, injector}
	if slices.ContainsFunc(injector, func(p corev1.Pod) bool { return !w.openToNodes(&p, webhook) }) {
		problems = append(problems, mesh.Injector+" may not be entered on port 8443 by the API server, which is no pod")
	}
	if len(problems) == 0 {
		return nil, nil
	}
	fix := ingressFix(tulle)
	return problems, &fix
}

// selecting are the policies of a direction that select p.
func (w *wall) selecting(p *corev1.Pod, direction networkingv1.PolicyType) []*networkingv1.NetworkPolicy {
	var out []*networkingv1.NetworkPolicy
	for i := range w.policies {
		n := &w.policies[i]
		if n.Namespace == p.Namespace && selects(&n.Spec.PodSelector, p.Labels) && hasDirection(n, direction) {
			out = append(out, n)
		}
	}
	return out
}

// hasDirection: without policyTypes a policy is about ingress, and about egress where it has such rules.
func hasDirection(n *networkingv1.NetworkPolicy, d networkingv1.PolicyType) bool {
	if len(n.Spec.PolicyTypes) > 0 {
		return slices.Contains(n.Spec.PolicyTypes, d)
	}
	return d == networkingv1.PolicyTypeIngress || len(n.Spec.Egress) > 0
}

func (w *wall) leaves(from, to *corev1.Pod, d door) bool {
	policies := w.selecting(from, networkingv1.PolicyTypeEgress)
	return len(policies) == 0 || slices.ContainsFunc(policies, func(n *networkingv1.NetworkPolicy) bool {
		return slices.ContainsFunc(n.Spec.Egress, func(r networkingv1.NetworkPolicyEgressRule) bool {
			return hasPort(r.Ports, to, d) && w.hasPeer(r.To, n.Namespace, to)
		})
	})
}

func (w *wall) enters(from, to *corev1.Pod, d door) bool {
	policies := w.selecting(to, networkingv1.PolicyTypeIngress)
	return len(policies) == 0 || slices.ContainsFunc(policies, func(n *networkingv1.NetworkPolicy) bool {
		return slices.ContainsFunc(n.Spec.Ingress, func(r networkingv1.NetworkPolicyIngressRule) bool {
			return hasPort(r.Ports, to, d) && w.hasPeer(r.From, n.Namespace, from)
		})
	})
}

// openToNodes: only a rule for everybody, or for addresses, lets in what is no pod.
func (w *wall) openToNodes(to *corev1.Pod, d door) bool {
	policies := w.selecting(to, networkingv1.PolicyTypeIngress)
	return len(policies) == 0 || slices.ContainsFunc(policies, func(n *networkingv1.NetworkPolicy) bool {
		return slices.ContainsFunc(n.Spec.Ingress, func(r networkingv1.NetworkPolicyIngressRule) bool {
			block := slices.ContainsFunc(r.From, func(p networkingv1.NetworkPolicyPeer) bool { return p.IPBlock != nil })
			return hasPort(r.Ports, to, d) && (len(r.From) == 0 || block)
		})
	})
}

func (w *wall) hasPeer(peers []networkingv1.NetworkPolicyPeer, home string, p *corev1.Pod) bool {
	return len(peers) == 0 || slices.ContainsFunc(peers, func(peer networkingv1.NetworkPolicyPeer) bool {
		if peer.IPBlock != nil {
			return inBlock(peer.IPBlock, p)
		}
		if peer.NamespaceSelector == nil && p.Namespace != home {
			return false
		}
		if ns := w.namespaces[p.Namespace]; peer.NamespaceSelector != nil && (ns == nil || !selects(peer.NamespaceSelector, ns.Labels)) {
			return false
		}
		return peer.PodSelector == nil || selects(peer.PodSelector, p.Labels)
	})
}

func inBlock(b *networkingv1.IPBlock, p *corev1.Pod) bool {
	in := func(cidr string) bool {
		n, err := netip.ParsePrefix(cidr)
		return err == nil && slices.ContainsFunc(p.Status.PodIPs, func(ip corev1.PodIP) bool {
			a, err := netip.ParseAddr(ip.IP)
			return err == nil && n.Contains(a)
		})
	}
	return in(b.CIDR) && !slices.ContainsFunc(b.Except, in)
}

func hasPort(ports []networkingv1.NetworkPolicyPort, to *corev1.Pod, d door) bool {
	return len(ports) == 0 || slices.ContainsFunc(ports, func(p networkingv1.NetworkPolicyPort) bool {
		switch {
		case protocolOf(&p) != d.protocol:
			return false
		case p.Port == nil:
			return true
		case p.Port.Type == intstr.String:
			return hasNamedPort(to, p.Port.StrVal, d.port)
		case p.EndPort != nil:
			return d.port >= p.Port.IntVal && d.port <= *p.EndPort
		}
		return p.Port.IntVal == d.port
	})
}

// protocolOf is TCP where none is said.
func protocolOf(p *networkingv1.NetworkPolicyPort) corev1.Protocol {
	if p.Protocol == nil {
		return corev1.ProtocolTCP
	}
	return *p.Protocol
}

func hasNamedPort(p *corev1.Pod, name string, port int32) bool {
	return slices.ContainsFunc(p.Spec.Containers, func(c corev1.Container) bool {
		return slices.ContainsFunc(c.Ports, func(cp corev1.ContainerPort) bool { return cp.Name == name && cp.ContainerPort == port })
	})
}

func selects(s *metav1.LabelSelector, of map[string]string) bool {
	sel, err := metav1.LabelSelectorAsSelector(s)
	return err == nil && sel.Matches(labels.Set(of))
}

func addFix(all []networkingv1.NetworkPolicy, p networkingv1.NetworkPolicy) []networkingv1.NetworkPolicy {
	if slices.ContainsFunc(all, func(o networkingv1.NetworkPolicy) bool { return o.Namespace == p.Namespace && o.Name == p.Name }) {
		return all
	}
	return append(all, p)
}

func policy(namespace, name string, spec networkingv1.NetworkPolicySpec) networkingv1.NetworkPolicy {
	return networkingv1.NetworkPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}, Spec: spec,
	}
}

// egressFix lets every pod of a namespace reach the control plane, and the DNS by which it is found.
func egressFix(namespace, tulle string, doors []door) networkingv1.NetworkPolicy {
	to := func(namespace string, ports []networkingv1.NetworkPolicyPort) networkingv1.NetworkPolicyEgressRule {
		return networkingv1.NetworkPolicyEgressRule{
			To: []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{
				MatchLabels: map[string]string{corev1.LabelMetadataName: namespace},
			}}},
			Ports: ports,
		}
	}
	rules := []networkingv1.NetworkPolicyEgressRule{to(tulle, tcp(mesh.IdentityPort, mesh.DestinationPort))}
	for _, d := range doors {
		if d.protocol == corev1.ProtocolUDP {
			udp := tcp(int(d.port))
			udp[0].Protocol = &d.protocol
			rules = append(rules, to(metav1.NamespaceSystem, append(udp, tcp(int(d.port))...)))
		}
	}
	return policy(namespace, "allow-tulle", networkingv1.NetworkPolicySpec{
		PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeEgress}, Egress: rules,
	})
}

// ingressFix lets everybody into the doors of the control plane: each of them asks for an identity.
func ingressFix(tulle string) networkingv1.NetworkPolicy {
	return policy(tulle, "allow-tulle", networkingv1.NetworkPolicySpec{
		PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
		Ingress:     []networkingv1.NetworkPolicyIngressRule{{Ports: tcp(mesh.IdentityPort, mesh.DestinationPort, 8443)}},
	})
}

func tcp(ports ...int) []networkingv1.NetworkPolicyPort {
	protocol := corev1.ProtocolTCP
	var out []networkingv1.NetworkPolicyPort
	for _, p := range ports {
		port := intstr.FromInt32(int32(p))
		out = append(out, networkingv1.NetworkPolicyPort{Protocol: &protocol, Port: &port})
	}
	return out
}

func manifests(policies []networkingv1.NetworkPolicy) string {
	var docs []string
	for i := range policies {
		b, err := yaml.Marshal(&policies[i])
		if err != nil {
			panic("BUG: " + err.Error())
		}
		docs = append(docs, string(b))
	}
	return strings.Join(docs, "---\n")
}
