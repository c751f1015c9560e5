package state

import (
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/tulle-mesh/tulle/internal/mesh"
)

// Dump writes what proxies would be told, for people and for tests: each table with what it is
// called, its policy and its endpoints, and each workload's inbound policy. Versions are left out.
func (s *Snapshot) Dump(w io.Writer) {
	called := make(map[Key][]string)
	for t, f := range s.Targets() {
		called[f.Key] = append(called[f.Key], t.String())
	}
	for t := range s.Tables() {
		fmt.Fprintf(w, "table %s: %s\n", t.Key, describePolicy(t.policy))
		fmt.Fprintf(w, "\tcalled %s\n", strings.Join(called[t.Key], ", "))
		for ns := range s.Namespaces() {
			if t.HasConsumer(ns.Name) {
				fmt.Fprintf(w, "\tfor clients of %s: %s\n", ns.Name, describePolicy(t.Policy(ns.Name)))
			}
		}
		for e := range t.Endpoints() {
			fmt.Fprintf(w, "\t%s\n", describeEndpoint(e))
		}
	}
	for ip, f := range s.podAddrs() {
		t, _ := s.podTable(netip.AddrPortFrom(ip, 0))
		fmt.Fprintf(w, "pod %s: %s\n", f.Workload, describeEndpoint(t.Get(netip.AddrPortFrom(ip, 0))))
	}
	for wl := range s.Workloads() {
		in := s.Inbound(wl.Name).Policy
		fmt.Fprintf(w, "inbound %s: %s", wl.Name, in.Default)
		for _, p := range in.Ports {
			fmt.Fprintf(w, ", %d %s %s", p.Port, p.Default, p.Protocol)
		}
		if in.Terminating {
			fmt.Fprint(w, ", terminating")
		}
		fmt.Fprintln(w)
	}
}

func describePolicy(p *mesh.TargetPolicy) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", p, p.Protocol)
	if p.Balancing == mesh.BalanceSource {
		b.WriteString(", sticky")
	}
	for _, r := range p.Routes {
		fmt.Fprintf(&b, ", route %s to", r.Name)
		for _, to := range r.Backends {
			fmt.Fprintf(&b, " %d %s", to.Weight, to.Target)
		}
	}
	return b.String()
}

func describeEndpoint(e *mesh.Endpoint) string {
	b := []string{e.Addr.String(), e.Protocol.String()}
	if e.Identity != "" {
		b = append(b, string(e.Identity))
	} else {
		b = append(b, "plaintext: "+e.NoTLS.String())
	}
	add := func(name, value string) {
		if value != "" {
			b = append(b, name+"="+value)
		}
	}
	if e.Weight > 1 {
		add("weight", fmt.Sprint(e.Weight))
	}
	add("zone", e.Zone)
	add("for", e.ForZones)
	add("node", e.Node)
	add("deployment", e.Deployment)
	add("pod", e.Pod)
	if e.Terminating {
		b = append(b, "terminating")
	}
	return strings.Join(b, " ")
}
