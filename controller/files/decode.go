package files

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	policyv1alpha1 "github.com/tulle-mesh/tulle/api/policy/v1alpha1"
	"github.com/tulle-mesh/tulle/controller/convert"
	"github.com/tulle-mesh/tulle/controller/state"
	"github.com/tulle-mesh/tulle/controller/status"
)

// content is what a file says.
type content struct {
	objects []object
	reports []status.Report
	broken  bool // what the file said before stays in force

	// documents are the parts, by their bytes, with lines counted from their own first one: a large
	// file of which one document changed costs one document.
	documents map[string]*content
	bytes     string // of such a part
}

// object is one row, and how to put it into the store and take it out.
type object struct {
	id     status.Object
	file   string
	line   int
	row    any // a pointer; the same one is the same row
	put    func(*state.Tx)
	remove func(*state.Tx)
}

// parser reads one file.
type parser struct {
	file        string // as reports name it
	trustDomain string
	out         content
}

// parse reads a file's bytes, of which before was made last. It never fails: what is wrong is in the
// reports.
func parse(file, trustDomain string, data []byte, before content) content {
	p := &parser{file: file, trustDomain: trustDomain}
	if len(bytes.TrimSpace(data)) == 0 {
		p.broken(place{line: 1}, status.Object{}, "the file is empty; delete it to take its objects away")
		return p.out
	}
	all := content{documents: make(map[string]*content)}
	for d := range documents(data) {
		part := before.documents[string(d.data)]
		if part == nil {
			p.out = content{bytes: string(d.data)}
			p.document(document{data: d.data, line: 1})
			part = new(content)
			*part = p.out
		}
		all.documents[part.bytes] = part
		all.append(part, d.line-1)
	}
	return all
}

// append adds a part that begins so many lines below the start.
func (c *content) append(part *content, lines int) {
	for _, o := range part.objects {
		o.line += lines
		c.objects = append(c.objects, o)
	}
	for _, r := range part.reports {
		r.Line += lines
		c.reports = append(c.reports, r)
	}
	c.broken = c.broken || part.broken
}

func (p *parser) broken(at place, o status.Object, message string) {
	p.out.broken = true
	p.report(at, o, status.Problem{Severity: status.Broken, Message: message})
}

func (p *parser) report(at place, o status.Object, problem status.Problem) {
	r := status.Of(o, problem)
	r.File, r.Line = p.file, at.of(problem.Field)
	p.out.reports = append(p.out.reports, r)
}

// header is what decides how to read the rest.
type header struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	} `json:"metadata"`
	Items []json.RawMessage `json:"items"`
}

func (p *parser) document(d document) {
	at := place{line: d.line, source: d.data}
	data, err := yaml.YAMLToJSONStrict(d.data)
	if err != nil {
		p.broken(at.at(err), status.Object{}, message(err))
		return
	}
	if bytes.Equal(bytes.TrimSpace(data), []byte("null")) {
		return // comments alone
	}
	p.object(at, data)
}

func (p *parser) object(at place, data []byte) {
	var h header
	if err := json.Unmarshal(data, &h); err != nil {
		p.broken(at.at(err), status.Object{}, "not a Kubernetes object: "+message(err))
		return
	}
	if h.Kind == "List" {
		for _, item := range h.Items {
			p.object(place{line: at.line}, item)
		}
		return
	}
	id := status.Object{Kind: h.Kind, Namespace: h.Metadata.Namespace, Name: h.Metadata.Name}
	switch {
	case h.Kind == "" || h.APIVersion == "":
		p.broken(at, id, "not a Kubernetes object: it needs apiVersion and kind")
		return
	case id.Name == "":
		p.broken(at, id, "metadata.name is missing")
		return
	}
	if id.Namespace == "" && h.Kind != "Namespace" {
		id.Namespace = "default"
	}
	p.kind(at, h.APIVersion, id, data)
}

// kind reads an object of a kind that the mesh knows.
func (p *parser) kind(at place, apiVersion string, id status.Object, data []byte) {
	n := state.Name{Namespace: id.Namespace, Name: id.Name}
	switch apiVersion + " " + id.Kind {
	case "v1 Namespace":
		add(p, at, id, data, read[corev1.Namespace, state.Namespace]{
			convert: convert.Namespace,
			put:     (*state.Tx).PutNamespace, remove: func(x *state.Tx) { x.DeleteNamespace(id.Name) },
		})
	case "v1 Service":
		add(p, at, id, data, read[corev1.Service, state.Service]{
			convert: func(o *corev1.Service) (*state.Service, []status.Problem) {
				o.Namespace = id.Namespace
				return convert.Service(o)
			},
			put: (*state.Tx).PutService, remove: func(x *state.Tx) { x.DeleteService(n) },
		})
	case "discovery.k8s.io/v1 EndpointSlice":
		add(p, at, id, data, read[discoveryv1.EndpointSlice, state.Slice]{
			convert: func(o *discoveryv1.EndpointSlice) (*state.Slice, []status.Problem) {
				o.Namespace = id.Namespace
				return convert.Slice(o)
			},
			put: (*state.Tx).PutSlice, remove: func(x *state.Tx) { x.DeleteSlice(n) },
		})
	case "policy.tulle.dev/v1alpha1 ExternalWorkload":
		add(p, at, id, data, read[policyv1alpha1.ExternalWorkload, state.Workload]{
			convert: func(o *policyv1alpha1.ExternalWorkload) (*state.Workload, []status.Problem) {
				o.Namespace = id.Namespace
				return convert.Workload(o, p.trustDomain)
			},
			put: (*state.Tx).PutWorkload, remove: func(x *state.Tx) { x.DeleteWorkload(n) },
			strict: true,
		})
	case "gateway.networking.k8s.io/v1 HTTPRoute":
		add(p, at, id, data, read[gatewayv1.HTTPRoute, state.Route]{
			convert: func(o *gatewayv1.HTTPRoute) (*state.Route, []status.Problem) {
				o.Namespace = id.Namespace
				return convert.Route(o)
			},
			put: (*state.Tx).PutRoute, remove: func(x *state.Tx) { x.DeleteRoute(n) },
		})
	default:
		p.report(at, id, status.Problem{
			Severity: status.Ignored, Message: fmt.Sprintf("%s %s is not supported yet", apiVersion, id.Kind),
		})
	}
}

// read is how objects of one kind become rows.
type read[O, R any] struct {
	convert func(*O) (*R, []status.Problem)
	put     func(*state.Tx, *R)
	remove  func(*state.Tx)
	strict  bool // a field that is not known is an error: the kind is ours
}

func add[O, R any](p *parser, at place, id status.Object, data []byte, how read[O, R]) {
	var o O
	unknown, err := kjson.UnmarshalStrict(data, &o)
	if err != nil {
		p.broken(at.at(err), id, message(err))
		return
	}
	for _, u := range unknown {
		if how.strict {
			p.broken(at.at(u), id, u.Error())
		} else {
			p.report(at.at(u), id, status.Problem{Severity: status.Ignored, Message: u.Error()})
		}
	}
	row, problems := how.convert(&o)
	for _, problem := range problems {
		p.report(at, id, problem)
		p.out.broken = p.out.broken || problem.Severity == status.Broken
	}
	if row == nil {
		return
	}
	p.out.objects = append(p.out.objects, object{
		id: id, file: p.file, line: at.of(""), row: row, put: func(x *state.Tx) { how.put(x, row) }, remove: how.remove,
	})
}

// message is an error without the parts that say what reads YAML here.
func message(err error) string {
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		return syntax.Error()
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "it ends in the middle"
	}
	return clean(err.Error())
}
