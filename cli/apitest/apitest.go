// Package apitest is an API server for tests of the command line: the objects that a test gives it, read
// over HTTP by the real clients, so that a test meets kubeconfigs, tokens, discovery and selectors as an
// operator does. It knows no writes but access reviews.
package apitest

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
)

// kind is a resource that the server serves.
type kind struct {
	group, version, resource, kind string
	namespaced                     bool
}

func (k kind) gv() string {
	if k.group == "" {
		return k.version
	}
	return k.group + "/" + k.version
}

var kinds = []kind{
	{"", "v1", "namespaces", "Namespace", false},
	{"", "v1", "nodes", "Node", false},
	{"", "v1", "pods", "Pod", true},
	{"", "v1", "services", "Service", true},
	{"", "v1", "serviceaccounts", "ServiceAccount", true},
	{"", "v1", "secrets", "Secret", true},
	{"", "v1", "configmaps", "ConfigMap", true},
	{"", "v1", "resourcequotas", "ResourceQuota", true},
	{"", "v1", "limitranges", "LimitRange", true},
	{"", "v1", "events", "Event", true},
	{"apps", "v1", "deployments", "Deployment", true},
	{"apps", "v1", "statefulsets", "StatefulSet", true},
	{"apps", "v1", "daemonsets", "DaemonSet", true},
	{"apps", "v1", "replicasets", "ReplicaSet", true},
	{"batch", "v1", "jobs", "Job", true},
	{"batch", "v1", "cronjobs", "CronJob", true},
	{"rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", false},
	{"rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", false},
	{"rbac.authorization.k8s.io", "v1", "roles", "Role", true},
	{"rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding", true},
	{"admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", false},
	{"admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", false},
	{"apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", false},
	{"networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", true},
	{"policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", true},
	{"coordination.k8s.io", "v1", "leases", "Lease", true},
	{"discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", true},
	{"gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute", true},
}

// Server is the API server. Its fields are set before it is asked.
type Server struct {
	*httptest.Server

	// Token is what it accepts.
	Token string
	// Version is its Kubernetes.
	Version string
	// Denied are "verb resource" that nobody may: "create secrets".
	Denied []string
	// Forbidden are resources whose objects it shows to nobody.
	Forbidden []string

	mu      sync.Mutex
	objects []unstructured.Unstructured // guarded by mu
}

// Start starts a server that has objects; the caller closes it.
func Start(objects ...unstructured.Unstructured) *Server {
	s := &Server{Token: "let-me-in", Version: "v1.37.2", objects: slices.Clone(objects)}
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // of clients that a test has distrust it
	s.StartTLS()
	return s
}

// Kubeconfig is a file with which the server is reached; token "" is the right one.
func (s *Server) Kubeconfig(token string) []byte {
	if token == "" {
		token = s.Token
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
current-context: test
clusters: [{name: test, cluster: {server: %q, certificate-authority-data: %s}}]
users: [{name: test, user: {token: %q}}]
contexts: [{name: test, context: {cluster: test, user: test}}]
`, s.URL, base64.StdEncoding.EncodeToString(ca), token)
}

// ServeHTTP answers as kube-apiserver does.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer "+s.Token {
		status(w, http.StatusUnauthorized, "Unauthorized", "Unauthorized")
		return
	}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case r.URL.Path == "/version":
		major, minor := "1", strings.Split(s.Version, ".")[1]
		answer(w, map[string]any{"major": major, "minor": minor, "gitVersion": s.Version})
	case r.URL.Path == "/api":
		answer(w, map[string]any{"kind": "APIVersions", "versions": []string{"v1"}})
	case r.URL.Path == "/apis":
		s.groups(w)
	case parts[0] == "api" && len(parts) == 2, parts[0] == "apis" && len(parts) == 3:
		s.resources(w, strings.TrimPrefix(strings.Join(parts[1:], "/"), "/"))
	case parts[0] == "api":
		s.object(w, r, "", parts[2:])
	case parts[0] == "apis" && len(parts) > 3:
		s.object(w, r, parts[1], parts[3:])
	default:
		status(w, http.StatusNotFound, "NotFound", "the server could not find the requested resource")
	}
}

func (s *Server) groups(w http.ResponseWriter) {
	type version struct {
		GroupVersion string `json:"groupVersion"`
		Version      string `json:"version"`
	}
	type group struct {
		Name      string    `json:"name"`
		Versions  []version `json:"versions"`
		Preferred version   `json:"preferredVersion"`
	}
	var all []group
	for _, k := range kinds {
		if k.group == "" || slices.ContainsFunc(all, func(g group) bool { return g.Name == k.group }) {
			continue
		}
		v := version{k.gv(), k.version}
		all = append(all, group{k.group, []version{v}, v})
	}
	answer(w, map[string]any{"kind": "APIGroupList", "apiVersion": "v1", "groups": all})
}

func (s *Server) resources(w http.ResponseWriter, gv string) {
	all := []map[string]any{}
	for _, k := range kinds {
		if k.gv() == gv {
			all = append(all, map[string]any{
				"name": k.resource, "kind": k.kind, "namespaced": k.namespaced, "singularName": "",
				"verbs": []string{"get", "list", "delete"},
			})
		}
	}
	answer(w, map[string]any{"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": gv, "resources": all})
}

// object answers for rest: [namespaces NS] resource [name].
func (s *Server) object(w http.ResponseWriter, r *http.Request, group string, rest []string) {
	namespace := ""
	if len(rest) > 2 && rest[0] == "namespaces" {
		namespace, rest = rest[1], rest[2:]
	}
	if strings.HasPrefix(rest[0], "selfsubject") {
		s.review(w, r)
		return
	}
	i := slices.IndexFunc(kinds, func(k kind) bool { return k.group == group && k.resource == rest[0] })
	if i < 0 {
		status(w, http.StatusNotFound, "NotFound", "the server could not find the requested resource")
		return
	}
	k := kinds[i]
	if slices.Contains(s.Forbidden, k.resource) {
		status(w, http.StatusForbidden, "Forbidden", k.resource+" is forbidden: User \"dev\" cannot list resource \""+k.resource+"\"")
		return
	}
	found := s.find(k, namespace)
	if len(rest) > 1 {
		for i := range found {
			if found[i].GetName() == rest[1] {
				answer(w, found[i].Object)
				return
			}
		}
		status(w, http.StatusNotFound, "NotFound", fmt.Sprintf("%s %q not found", k.resource, rest[1]))
		return
	}
	list(w, r, k, found)
}

func (s *Server) find(k kind, namespace string) []unstructured.Unstructured {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []unstructured.Unstructured
	for i := range s.objects {
		o := s.objects[i]
		gk := o.GroupVersionKind().GroupKind()
		if gk.Group == k.group && gk.Kind == k.kind && (namespace == "" || o.GetNamespace() == namespace) {
			found = append(found, o)
		}
	}
	return found
}

func list(w http.ResponseWriter, r *http.Request, k kind, found []unstructured.Unstructured) {
	selector, err := labels.Parse(r.URL.Query().Get("labelSelector"))
	if err != nil {
		status(w, http.StatusBadRequest, "BadRequest", err.Error())
		return
	}
	name, named := strings.CutPrefix(r.URL.Query().Get("fieldSelector"), "metadata.name=")
	items := []any{}
	for i := range found {
		if selector.Matches(labels.Set(found[i].GetLabels())) && (!named || found[i].GetName() == name) {
			items = append(items, found[i].Object)
		}
	}
	answer(w, map[string]any{"apiVersion": k.gv(), "kind": k.kind + "List", "metadata": map[string]any{"resourceVersion": "1"}, "items": items})
}

// review answers a SelfSubjectAccessReview.
func (s *Server) review(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Spec struct {
			ResourceAttributes struct {
				Verb     string `json:"verb"`
				Resource string `json:"resource"`
			} `json:"resourceAttributes"`
		} `json:"spec"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		status(w, http.StatusBadRequest, "BadRequest", err.Error())
		return
	}
	a := in.Spec.ResourceAttributes
	w.WriteHeader(http.StatusCreated)
	answer(w, map[string]any{
		"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
		"status": map[string]any{"allowed": !slices.Contains(s.Denied, a.Verb+" "+a.Resource)},
	})
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		panic(http.ErrAbortHandler)
	}
}

func status(w http.ResponseWriter, code int, reason, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	answer(w, map[string]any{"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message})
}
