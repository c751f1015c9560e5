package check

import (
	"context"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/tulle-mesh/tulle/controller/convert"
)

// kubeProxyReplacement looks for network plugins that choose an endpoint when the application connects,
// in its own socket: the proxy then sees a pod's address and can neither balance nor route.
func kubeProxyReplacement(ctx context.Context, e *env) Finding {
	var problems []string
	cm, err := e.Kube.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, "cilium-config", metav1.GetOptions{})
	switch {
	case err == nil:
		if p := cilium(cm.Data); p != "" {
			problems = append(problems, p)
		}
	case !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err):
		return unknown(e.Explain("look for Cilium", err))
	}
	felix, err := e.Dynamic.Resource(schema.GroupVersionResource{Group: "crd.projectcalico.org", Version: "v1", Resource: "felixconfigurations"}).
		Get(ctx, "default", metav1.GetOptions{})
	switch {
	case err == nil:
		if p := calico(felix); p != "" {
			problems = append(problems, p)
		}
	case !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err):
		return unknown(e.Explain("look for Calico", err))
	}
	return warnings(problems, "")
}

// cilium reads cilium-config: with the replacement on, its socket load balancer serves pods, too, unless
// it is limited to the hosts' namespace.
func cilium(data map[string]string) string {
	replaces := slices.Contains([]string{"true", "strict"}, data["kube-proxy-replacement"]) || data["bpf-lb-sock"] == "true"
	if !replaces || data["bpf-lb-sock-hostns-only"] == "true" {
		return ""
	}
	return "Cilium's socket load balancer chooses endpoints before the proxy: traffic is mutual TLS, but neither balanced nor routed by Tulle; " +
		"set socketLB.hostNamespaceOnly=true (bpf-lb-sock-hostns-only)"
}

func calico(felix *unstructured.Unstructured) string {
	spec, _, _ := unstructured.NestedMap(felix.Object, "spec") // none
	how, _ := spec["bpfConnectTimeLoadBalancing"].(string)
	if spec["bpfEnabled"] != true || how == "Disabled" || spec["bpfConnectTimeLoadBalancingEnabled"] == false {
		return ""
	}
	return "Calico's eBPF data plane chooses endpoints when applications connect, before the proxy: traffic is mutual TLS, but neither balanced nor " +
		"routed by Tulle; set bpfConnectTimeLoadBalancing: Disabled in FelixConfiguration default"
}

// appProtocols names ports whose appProtocol says nothing to Tulle, in namespaces with meshed pods.
func appProtocols(ctx context.Context, e *env) Finding {
	pods, err := e.meshed(ctx)
	if err != nil {
		return unknown(err)
	}
	concerned := map[string]bool{}
	for i := range pods {
		concerned[pods[i].Namespace] = true
	}
	l, err := e.Kube.CoreV1().Services("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return unknown(e.Explain("list services", err))
	}
	var problems []string
	for i := range l.Items {
		s := &l.Items[i]
		if !concerned[s.Namespace] {
			continue
		}
		for _, p := range s.Spec.Ports {
			if p.AppProtocol != nil && !convert.IsKnownProtocol(*p.AppProtocol) {
				problems = append(problems, fmt.Sprintf("service %s/%s: port %d has appProtocol %q, which is not known: what it speaks is detected", s.Namespace, s.Name, p.Port, *p.AppProtocol))
			}
		}
	}
	return warnings(problems, "")
}

// gatewayAPI looks for the routes' definitions.
func gatewayAPI(_ context.Context, e *env) Finding {
	groups, err := e.Kube.Discovery().ServerGroups()
	if err != nil {
		return unknown(e.Explain("ask what the cluster serves", err))
	}
	for _, g := range groups.Groups {
		if g.Name != "gateway.networking.k8s.io" {
			continue
		}
		var served []string
		for _, v := range g.Versions {
			served = append(served, v.Version)
		}
		if slices.Contains(served, "v1") {
			return ok("gateway.networking.k8s.io/v1")
		}
		return warn("the Gateway API is there in versions %s, and Tulle reads v1", strings.Join(served, ", "))
	}
	return skip("not installed; the mesh works without, HTTPRoute and GRPCRoute cannot be used")
}
