package explain

import (
	"context"
	"fmt"
	"io"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tulle-mesh/tulle/cli/cluster"
	"github.com/tulle-mesh/tulle/cli/console"
	"github.com/tulle-mesh/tulle/controller/convert"
	"github.com/tulle-mesh/tulle/controller/state"
	"github.com/tulle-mesh/tulle/injector/config"
	"github.com/tulle-mesh/tulle/internal/mesh"
)

// serviceReport is what is said of a Service.
type serviceReport struct {
	Service string       `json:"service"`
	Ports   []portReport `json:"ports"`
	Notices []string     `json:"notices,omitempty"`
}

type portReport struct {
	Port     int32  `json:"port"`
	Name     string `json:"name,omitempty"`
	Protocol string `json:"protocol"`
	From     string `json:"from"`
}

func (o *options) service(ctx context.Context, k *cluster.Cluster, name string) error {
	svc, err := k.Kube.CoreV1().Services(k.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return k.Explain(fmt.Sprintf("get service %s/%s", k.Namespace, name), err)
	}
	ns, err := k.Kube.CoreV1().Namespaces().Get(ctx, k.Namespace, metav1.GetOptions{})
	if err != nil {
		return k.Explain("get namespace "+k.Namespace, err)
	}
	r := describe(svc, ns)
	return o.con.Write(o.format, r, func(w io.Writer) error {
		fmt.Fprintf(w, "service %s\n", r.Service)
		for _, n := range r.Notices {
			fmt.Fprintf(w, "! %s\n", console.Clean(n))
		}
		fmt.Fprintln(w)
		rows := [][]string{{"PORT", "NAME", "SPEAKS", "FROM"}}
		for _, p := range r.Ports {
			rows = append(rows, []string{fmt.Sprint(p.Port), p.Name, p.Protocol, p.From})
		}
		return console.Rows(w, rows)
	})
}

// describe says what each port is taken to speak, the strongest word first (R2.4).
func describe(svc *corev1.Service, ns *corev1.Namespace) serviceReport {
	row, problems := convert.Service(svc)
	r := serviceReport{Service: svc.Namespace + "/" + svc.Name, Ports: []portReport{}}
	for _, p := range problems {
		r.Notices = append(r.Notices, p.Field+": "+p.Message)
	}
	var own, above []state.PortRange // nil: not said
	if row != nil {
		own = row.Rules.Opaque
	}
	if n, _ := convert.Namespace(ns); n != nil && own == nil {
		above = n.Rules.Opaque
	}
	for _, p := range svc.Spec.Ports {
		out := portReport{Port: p.Port, Name: p.Name}
		switch {
		case p.Protocol != "" && p.Protocol != corev1.ProtocolTCP:
			out.Protocol, out.From = string(p.Protocol), "it is passed by, not meshed"
		case contains(own, p.Port):
			out.Protocol, out.From = mesh.ProtocolOpaque.String(), "annotation "+config.Prefix+config.OpaquePorts+" of the service"
		case contains(above, p.Port):
			out.Protocol, out.From = mesh.ProtocolOpaque.String(), "annotation "+config.Prefix+config.OpaquePorts+" of namespace "+ns.Name
		default:
			out.Protocol, out.From = said(row, &p)
		}
		r.Ports = append(r.Ports, out)
	}
	return r
}

// said is what the port itself says, else the defaults.
func said(row *state.Service, p *corev1.ServicePort) (protocol, from string) {
	i := -1
	if row != nil {
		i = slices.IndexFunc(row.Ports, func(q state.ServicePort) bool { return int32(q.Port) == p.Port })
	}
	switch {
	case i >= 0 && row.Ports[i].Protocol != mesh.ProtocolDetect && p.AppProtocol != nil:
		return row.Ports[i].Protocol.String(), "appProtocol: " + *p.AppProtocol
	case i >= 0 && row.Ports[i].Protocol != mesh.ProtocolDetect:
		return row.Ports[i].Protocol.String(), "the port's name, " + p.Name
	case contains(state.DefaultOpaque(), p.Port):
		return mesh.ProtocolOpaque.String(), "the default opaque ports"
	}
	return mesh.ProtocolDetect.String(), "nothing says it: each connection is looked at"
}

func contains(ranges []state.PortRange, port int32) bool {
	return slices.ContainsFunc(ranges, func(r state.PortRange) bool { return int32(r.From) <= port && port <= int32(r.To) })
}
