package convert

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/tulle-mesh/tulle/controller/state"
	"github.com/tulle-mesh/tulle/controller/status"
	"github.com/tulle-mesh/tulle/internal/mesh"
)

// maxWeight is the largest weight that Gateway API allows.
const maxWeight = 1_000_000

// Route makes the row of an HTTPRoute. Of its rules, weighted backends are supported; a route that
// asks for anything else has no effect at all, because half of it could send requests where the
// other half would not have.
func Route(o *gatewayv1.HTTPRoute) (*state.Route, []status.Problem) {
	var p problems
	r := &state.Route{Name: state.Name{Namespace: o.Namespace, Name: o.Name}, Created: o.CreationTimestamp.Time}
	for i := range o.Spec.ParentRefs {
		p.parent(r, fmt.Sprintf("spec.parentRefs[%d]", i), &o.Spec.ParentRefs[i])
	}
	if len(o.Spec.ParentRefs) == 0 {
		p.ignoredf("spec.parentRefs", "is empty: the route is attached to nothing")
	}
	unsupported := len(p)
	p.only("spec", o.Spec, "parentRefs", "rules")
	if len(o.Spec.Rules) != 1 {
		p.ignoredf("spec.rules", "has %d rules: any number but one is not supported yet", len(o.Spec.Rules))
	}
	for i := range o.Spec.Rules {
		p.rule(r, fmt.Sprintf("spec.rules[%d]", i), &o.Spec.Rules[i])
	}
	if len(p) > unsupported {
		return nil, p
	}
	if len(r.Parents) == 0 {
		return nil, p
	}
	return r, p
}

// only says of every field that is set and not among those supported, by its name in YAML, that it
// is not supported. It looks at the type, so that a field of a later Gateway API is not overlooked.
func (p *problems) only(field string, object any, supported ...string) {
	v := reflect.ValueOf(object)
	for _, f := range reflect.VisibleFields(v.Type()) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous || !f.IsExported() || slices.Contains(supported, name) {
			continue
		}
		if !v.FieldByIndex(f.Index).IsZero() {
			p.ignoredf(field+"."+name, "is not supported yet")
		}
	}
}

func (p *problems) parent(r *state.Route, field string, ref *gatewayv1.ParentReference) {
	group, kind := "gateway.networking.k8s.io", "Gateway"
	if ref.Group != nil {
		group = string(*ref.Group)
	}
	if ref.Kind != nil {
		kind = string(*ref.Kind)
	}
	if group != "" || kind != "Service" {
		p.ignoredf(field, "is a %s: only Services (group \"\") are supported", kind)
		return
	}
	if ref.SectionName != nil {
		p.ignoredf(field+".sectionName", "is not supported yet: name the port instead")
		return
	}
	parent := state.RouteParent{Service: state.Name{Namespace: r.Name.Namespace, Name: string(ref.Name)}}
	if ref.Namespace != nil {
		parent.Service.Namespace = string(*ref.Namespace)
	}
	if ref.Port != nil {
		var ok bool
		if parent.Port, ok = p.port(field+".port", *ref.Port); !ok {
			return
		}
	}
	r.Parents = append(r.Parents, parent)
}

func (p *problems) rule(r *state.Route, field string, rule *gatewayv1.HTTPRouteRule) {
	p.only(field, *rule, "name", "matches", "backendRefs")
	for i := range rule.Matches {
		if !takesAll(&rule.Matches[i]) {
			p.ignoredf(fmt.Sprintf("%s.matches[%d]", field, i), "is not supported yet")
		}
	}
	for i := range rule.BackendRefs {
		p.backend(r, fmt.Sprintf("%s.backendRefs[%d]", field, i), &rule.BackendRefs[i])
	}
}

// takesAll reports whether a match is the one that the API fills in where none is given: the path
// prefix "/".
func takesAll(m *gatewayv1.HTTPRouteMatch) bool {
	if len(m.Headers) > 0 || len(m.QueryParams) > 0 || m.Method != nil {
		return false
	}
	p := m.Path
	return p == nil || (p.Type == nil || *p.Type == gatewayv1.PathMatchPathPrefix) && (p.Value == nil || *p.Value == "/")
}

func (p *problems) backend(r *state.Route, field string, ref *gatewayv1.HTTPBackendRef) {
	p.only(field, *ref, "group", "kind", "namespace", "name", "port", "weight")
	switch {
	case ref.Group != nil && *ref.Group != "", ref.Kind != nil && *ref.Kind != "Service":
		p.ignoredf(field+".kind", "is not supported yet: want a Service")
		return
	case ref.Namespace != nil && string(*ref.Namespace) != r.Name.Namespace:
		p.ignoredf(field+".namespace", "differs from the route's, which is not supported yet (ReferenceGrant)")
		return
	case ref.Port == nil:
		p.ignoredf(field+".port", "is missing: a Service needs one")
		return
	}
	port, ok := p.port(field+".port", *ref.Port)
	if !ok {
		return
	}
	weight := uint32(1)
	if ref.Weight != nil {
		if *ref.Weight < 0 || *ref.Weight > maxWeight {
			p.brokenf(field+".weight", "%d: want 0 to %d", *ref.Weight, maxWeight)
			return
		}
		weight = uint32(*ref.Weight)
	}
	r.Backends = append(r.Backends, mesh.Backend{
		Target: mesh.NameTarget(string(ref.Name)+"."+r.Name.Namespace, port), Weight: weight,
	})
}
