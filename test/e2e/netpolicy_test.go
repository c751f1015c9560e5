package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
)

// TestNetworkPolicyByPortHolds: traffic between meshed pods arrives at the port that was dialled (R5.6), so that a
// policy by port holds for it as it does without a mesh: for a client on the server's node and on the other one.
func TestNetworkPolicyByPortHolds(t *testing.T) {
	e := setup(t)
	e.mesh()
	e.kubectl("annotate", "namespace", e.namespace, "tulle.dev/inject=enabled")
	e.apply(guarded)
	e.rollout("pod/server", "pod/near", "pod/far", "pod/plain")
	policy := `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: by-port}, spec: {podSelector: {matchLabels: {app: server}},
policyTypes: [Ingress], ingress: [{from: [{podSelector: {}}], ports: [{port: 8080}]}]}}`
	e.apply(policy)
	e.enforce(e.namespace)
	for _, client := range []string{"near", "far", "plain"} {
		e.ask(client, "app", "http://server:8080/")
		if out, err := e.try(client, "http://server:9090/"); err == nil && strings.HasPrefix(out, "200") {
			t.Errorf("%s reached port 9090, which the policy denies: %q", client, out)
		} else {
			t.Logf("%s, at the port that is denied: %q, %v", client, out, err)
		}
	}
	if n := e.enforced("to-4143"); n != 0 {
		t.Errorf("%d packets were on their way to port 4143, which no policy names", n)
	}
	if e.enforced("allowed") == 0 || e.enforced("denied") == 0 {
		t.Errorf("%d connections were allowed and %d denied: nobody looked at them", e.enforced("allowed"), e.enforced("denied"))
	}
	e.kubectl("delete", "networkpolicy/by-port")
	e.enforce(e.namespace)
	for _, client := range []string{"near", "far"} { // asked only now: the policy denies port 4191, too
		e.counted("app=server", "request_total{", `direction="inbound"`, `tls="true"`,
			fmt.Sprintf(`client_id="spiffe://cluster.local/ns/%s/sa/%s"`, e.namespace, client))
	}
	for _, client := range []string{"near", "far", "plain"} { // it was the policy that denied it
		e.ask(client, "app", "http://server:9090/")
	}
}

// TestThePolicyThatCheckPrintsMends cuts the mesh with NetworkPolicies that are in force, has tulle check say so, and applies
// what it prints.
func TestThePolicyThatCheckPrintsMends(t *testing.T) {
	e := setup(t)
	e.mesh()
	deny := `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: deny-all}, spec: {podSelector: {}, policyTypes: [%s]}}`
	control := e.in(t, "tulle")
	t.Cleanup(func() {
		_, err := e.Kubectl(context.WithoutCancel(t.Context()), "--namespace=tulle", "delete", "networkpolicy", "--all")
		if err != nil {
			t.Error(err)
		}
	})
	e.apply(fmt.Sprintf(deny, "Egress"))
	control.apply(fmt.Sprintf(deny, "Ingress"))
	e.enforce(e.namespace, "tulle")
	s := e.runTulle(cutOff, "inject", "--manual", "-") // the webhook is cut off, too
	if s.status != 0 {
		t.Fatal(s.stderr)
	}
	e.apply(s.stdout)
	e.enforce(e.namespace, "tulle") // now that it has an address

	found := e.networkPolicies()
	for _, want := range []string{
		"pods of " + e.namespace + "/cut-off may not reach tulle-identity:8080 and tulle-destination:8086 and DNS:53",
		"tulle-identity may not be entered on port 8080", "tulle-injector may not be entered on port 8443 by the API server",
	} {
		if !strings.Contains(strings.Join(found.Problems, "\n"), want) {
			t.Errorf("tulle check does not say %q: %v", want, found.Problems)
		}
	}
	if state := e.proxyReady("cut-off"); state {
		t.Error("a proxy is ready although it can reach nothing: the policies are not in force")
	}
	e.applyNamed(found.Fix)
	e.enforce(e.namespace, "tulle")
	if again := e.networkPolicies(); again.Result != "ok" {
		t.Errorf("after what it printed, tulle check still says %v", again.Problems)
	}
	e.rollout("pod/cut-off")
	e.mustTulle("check", "--wait", "60s", "--only", "webhook") // the API server reaches the injector
}

// proxyReady reports whether a pod has a proxy that is ready.
func (e *env) proxyReady(pod string) bool {
	e.t.Helper()
	return e.field("pod/"+pod, `{.status.initContainerStatuses[?(@.name=="tulle-proxy")].ready}`) == "true"
}

// finding is one check's, as tulle check -o json prints it.
type finding struct {
	Anchor, Result, Hint, Note, Fix string
	Problems                        []string
}

// networkPolicies is what tulle check says of them.
func (e *env) networkPolicies() finding {
	e.t.Helper()
	return e.checked("network-policies")["network-policies"]
}

// checked makes some checks, by their names; none: all.
func (e *env) checked(only ...string) map[string]finding {
	e.t.Helper()
	if len(only) == 0 {
		return e.checkedWith()
	}
	return e.checkedWith("--only", strings.Join(only, ","))
}

// checkedWith makes the checks of tulle check with flags.
func (e *env) checkedWith(flags ...string) map[string]finding {
	e.t.Helper()
	args := append([]string{"check", "--wait", "0", "-o", "json"}, flags...)
	s := e.runTulle("", args...)
	var report struct {
		Groups []struct{ Checks []finding }
	}
	if err := json.Unmarshal([]byte(s.stdout), &report); err != nil {
		e.t.Fatalf("tulle check: %v\n%s%s", err, s.stdout, s.stderr)
	}
	all := map[string]finding{}
	for _, g := range report.Groups {
		for _, f := range g.Checks {
			all[f.Anchor] = f
		}
	}
	return all
}

// try asks once.
func (e *env) try(pod, url string) (string, error) {
	ctx, stop := e.ctx()
	defer stop()
	return e.Kubectl(ctx, "--namespace="+e.namespace, "exec", pod, "--container=app", "--", "/app", "get", url)
}

// policyOfPorts is what enforce understands of a NetworkPolicy; anything else in one fails the test.
type policyOfPorts struct {
	Metadata struct{ Name, Namespace string }
	Spec     struct {
		PodSelector     selectorOfLabels
		PolicyTypes     []string
		Ingress, Egress []struct {
			From, To []struct{ PodSelector, NamespaceSelector *selectorOfLabels }
			Ports    []struct {
				Protocol string
				Port     int
			}
		}
	}
}

type selectorOfLabels struct{ MatchLabels map[string]string }

func (s *selectorOfLabels) selects(labels map[string]string) bool {
	for k, v := range s.MatchLabels {
		if labels[k] != v {
			return false
		}
	}
	return true
}

// podOfPolicy is what policies select.
type podOfPolicy struct {
	Metadata struct {
		Name, Namespace string
		Labels          map[string]string
	}
	Status struct {
		Phase  string
		PodIPs []struct{ IP string }
	}
}

func (p *podOfPolicy) addresses(family string) []string {
	var out []string
	for _, ip := range p.Status.PodIPs {
		if (net.ParseIP(ip.IP).To4() != nil) == (family == "ip") {
			out = append(out, ip.IP)
		}
	}
	return out
}

// enforce does what a network plugin does with the NetworkPolicies of some namespaces: it writes, on both nodes, rules for
// what is forwarded to and from their pods. (The test bed's own plugin enforces none.) It is for the pods of this moment.
func (e *env) enforce(namespaces ...string) {
	e.t.Helper()
	var policies struct{ Items []policyOfPorts }
	var pods struct{ Items []podOfPolicy }
	read := func(into any, args ...string) {
		if err := json.Unmarshal([]byte(e.kubectl(append(args, "--output=json")...)), into); err != nil {
			e.t.Fatal(err)
		}
	}
	e.until(func(context.Context) error { // an address is what a rule is about
		pods.Items = nil
		read(&pods, "get", "pods", "--all-namespaces", "--field-selector=spec.nodeName!=")
		for _, p := range pods.Items {
			if slices.Contains(namespaces, p.Metadata.Namespace) && len(p.Status.PodIPs) == 0 {
				return fmt.Errorf("pod %s has no address yet", p.Metadata.Name)
			}
		}
		return nil
	})
	read(&policies, "get", "networkpolicies", "--all-namespaces")
	var out strings.Builder
	out.WriteString("table inet " + e.table() + "\ndelete table inet " + e.table() + "\ntable inet " + e.table() + " {\n" +
		" counter allowed {}\n counter denied {}\n counter to-4143 {}\n" +
		" chain forward {\n  type filter hook forward priority 10;\n  tcp dport 4143 counter name to-4143\n  ct state established,related accept\n")
	chains := ""
	for _, p := range pods.Items {
		for _, direction := range []string{"Egress", "Ingress"} {
			chosen := slices.DeleteFunc(slices.Clone(policies.Items), func(n policyOfPorts) bool {
				return !slices.Contains(namespaces, n.Metadata.Namespace) || n.Metadata.Namespace != p.Metadata.Namespace ||
					!n.Spec.PodSelector.selects(p.Metadata.Labels) || !slices.Contains(n.Spec.PolicyTypes, direction)
			})
			if len(chosen) == 0 {
				continue
			}
			chain := strings.ToLower(direction) + "-of-" + p.Metadata.Namespace + "-" + p.Metadata.Name
			chains += " chain " + chain + " {\n" + rulesOf(chosen, direction, pods.Items) + "  counter name denied reject with icmpx type admin-prohibited\n }\n"
			for _, family := range []string{"ip", "ip6"} {
				for _, a := range p.addresses(family) {
					side := map[string]string{"Egress": "saddr", "Ingress": "daddr"}[direction]
					fmt.Fprintf(&out, "  %s %s %s jump %s\n", family, side, a, chain)
				}
			}
		}
	}
	out.WriteString(" }\n" + chains + "}\n")
	e.onNodes(out.String())
	e.t.Cleanup(func() { e.onNodes("table inet " + e.table() + "\ndelete table inet " + e.table() + "\n") })
}

// rulesOf lets pass what one of the policies allows: all policies together are what is allowed.
func rulesOf(policies []policyOfPorts, direction string, pods []podOfPolicy) string {
	var out strings.Builder
	for _, n := range policies {
		rules, side := n.Spec.Ingress, "saddr"
		if direction == "Egress" {
			rules, side = n.Spec.Egress, "daddr"
		}
		for _, r := range rules {
			peers := append(slices.Clone(r.From), r.To...)
			matches := []string{""}
			if len(peers) > 0 {
				matches = nil
				for _, p := range pods {
					for _, peer := range peers {
						home := peer.NamespaceSelector == nil && p.Metadata.Namespace == n.Metadata.Namespace ||
							peer.NamespaceSelector != nil && peer.NamespaceSelector.selects(map[string]string{"kubernetes.io/metadata.name": p.Metadata.Namespace})
						if !home || peer.PodSelector != nil && !peer.PodSelector.selects(p.Metadata.Labels) {
							continue
						}
						for _, family := range []string{"ip", "ip6"} {
							for _, a := range p.addresses(family) {
								matches = append(matches, family+" "+side+" "+a+" ")
							}
						}
					}
				}
			}
			for _, match := range matches {
				for _, port := range r.Ports {
					protocol := "tcp"
					if port.Protocol == "UDP" {
						protocol = "udp"
					}
					fmt.Fprintf(&out, "  %s%s dport %d counter name allowed return\n", match, protocol, port.Port)
				}
			}
		}
	}
	return out.String()
}

func (e *env) table() string { return "policies-of-" + e.namespace }

// onNodes gives rules to nft on both nodes.
func (e *env) onNodes(rules string) {
	e.t.Helper()
	ctx, stop := context.WithTimeout(context.WithoutCancel(e.t.Context()), patience)
	defer stop()
	for _, node := range []string{"n1", "n2"} {
		cmd := e.Node(node).Command(ctx, "nft", "-f", "-")
		cmd.Stdin = strings.NewReader(rules)
		if out, err := cmd.CombinedOutput(); err != nil {
			e.t.Fatalf("nft on %s: %v\n%s\n%s", node, err, out, rules)
		}
	}
}

// enforced is how many packets a counter of the policies has seen, on both nodes.
func (e *env) enforced(counter string) (packets int) {
	e.t.Helper()
	ctx, stop := e.ctx()
	defer stop()
	for _, node := range []string{"n1", "n2"} {
		out, err := e.Node(node).Command(ctx, "nft", "list", "counter", "inet", e.table(), counter).Output()
		n := 0
		if _, rest, ok := strings.Cut(string(out), "packets "); !ok || err != nil {
			e.t.Fatalf("nft on %s: %v: %s", node, err, out)
		} else if _, err := fmt.Sscan(rest, &n); err != nil {
			e.t.Fatal(err)
		}
		packets += n
	}
	return packets
}

// guarded is a server with two ports; a client in the mesh on either node, and one without a proxy.
const guarded = `
{apiVersion: v1, kind: ServiceAccount, metadata: {name: near}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: far}}
---
apiVersion: v1
kind: Service
metadata: {name: server}
spec: {selector: {app: server}, ports: [{name: a, port: 8080}, {name: b, port: 9090}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server, labels: {app: server}}
spec:
  nodeName: n2
  terminationGracePeriodSeconds: 1
  containers:
    - {name: app, image: "tulle.test/tools:1", args: [serve, ":8080"], readinessProbe: {periodSeconds: 1, httpGet: {path: /, port: 8080}}}
    - {name: other, image: "tulle.test/tools:1", args: [serve, ":9090"], readinessProbe: {periodSeconds: 1, httpGet: {path: /, port: 9090}}}
---
apiVersion: v1
kind: Pod
metadata: {name: near}
spec: {nodeName: n2, serviceAccountName: near, terminationGracePeriodSeconds: 1, containers: [{name: app, image: "tulle.test/tools:1", args: [sleep]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far}
spec: {nodeName: n1, serviceAccountName: far, terminationGracePeriodSeconds: 1, containers: [{name: app, image: "tulle.test/tools:1", args: [sleep]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: plain, annotations: {tulle.dev/inject: disabled}}
spec: {nodeName: n1, terminationGracePeriodSeconds: 1, containers: [{name: app, image: "tulle.test/tools:1", args: [sleep]}]}
`

const cutOff = `
apiVersion: v1
kind: Pod
metadata: {name: cut-off}
spec: {terminationGracePeriodSeconds: 1, containers: [{name: app, image: "tulle.test/tools:1", args: [sleep]}]}
`
