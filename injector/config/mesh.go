package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/tulle-mesh/tulle/injector/skip"
)

// Names of the ConfigMap that holds what the chart was installed with.
const (
	ConfigMap = "tulle-config"
	ConfigKey = "values.yaml"
)

// Mesh is what holds for the whole mesh: the chart's values. It is immutable.
type Mesh struct {
	// Namespace is the control plane's.
	Namespace string
	// TrustDomain and ClusterDomain are cluster.local unless the values say otherwise.
	TrustDomain, ClusterDomain string
	// ClusterNetworks are the networks whose unknown addresses proxies refuse (R11.4).
	ClusterNetworks []netip.Prefix

	// values are the settings that the chart's values set, canonical, by name.
	values map[string]string
}

// Default is a mesh whose values say nothing.
func Default(namespace string) *Mesh {
	return &Mesh{Namespace: namespace, TrustDomain: "cluster.local", ClusterDomain: "cluster.local"}
}

// values are the chart's, as far as injection knows them.
type values struct {
	TrustDomain     string         `json:"trustDomain"`
	ClusterDomain   string         `json:"clusterDomain"`
	ClusterNetworks any            `json:"clusterNetworks"`
	Proxy           map[string]any `json:"proxy"`
}

// FromValues reads the values that the chart was installed with, as ConfigMap tulle-config holds them.
// All mistakes are told at once; a key below "proxy" that no setting has is one.
func FromValues(namespace string, raw []byte) (*Mesh, error) {
	var v values
	if err := yaml.Unmarshal(raw, &v); err != nil {
		return nil, fmt.Errorf("ConfigMap %s/%s: %s: %w", namespace, ConfigMap, ConfigKey, err)
	}
	m := Default(namespace)
	if v.TrustDomain != "" {
		m.TrustDomain = v.TrustDomain
	}
	if v.ClusterDomain != "" {
		m.ClusterDomain = v.ClusterDomain
	}
	var errs []error
	wrong := func(key, value, want string) {
		errs = append(errs, fmt.Errorf("ConfigMap %s/%s: %s: %s=%q: want %s", namespace, ConfigMap, ConfigKey, key, value, want))
	}
	text, known := scalar(v.ClusterNetworks)
	var good bool
	if m.ClusterNetworks, good = skip.ParseSubnets(text); !good || !known {
		wrong("clusterNetworks", text, subnets{}.wants())
	}
	m.values = map[string]string{}
	for _, s := range Table() {
		raw, set := v.Proxy[s.key()]
		delete(v.Proxy, s.key())
		if !set || raw == nil {
			continue
		}
		text, known := scalar(raw)
		if _, named := s.kind.(word); named && text == "" {
			continue // the chart's way to say nothing
		}
		value, good := s.kind.read(text)
		switch {
		case !known || !good:
			wrong(s.Value(), text, s.Wants())
		case value != s.Default: // charts write all defaults out
			m.values[s.Name] = value
		}
	}
	for _, key := range sorted(v.Proxy) {
		errs = append(errs, fmt.Errorf("ConfigMap %s/%s: %s: proxy.%s is no setting; docs/injection.md lists them", namespace, ConfigMap, ConfigKey, key))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return m, nil
}

// scalar writes a value of YAML the way that annotations are written: lists with commas, objects as
// key=value, booleans as enabled and disabled.
func scalar(v any) (string, bool) {
	switch v := v.(type) {
	case nil:
		return "", true
	case string:
		return v, true
	case bool:
		if v {
			return Enabled, true
		}
		return Disabled, true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	case []any:
		var parts []string
		for _, one := range v {
			s, ok := scalar(one)
			if !ok {
				return "", false
			}
			parts = append(parts, s)
		}
		return strings.Join(parts, ","), true
	case map[string]any:
		var parts []string
		for _, key := range sorted(v) {
			s, ok := scalar(v[key])
			if !ok {
				return "", false
			}
			parts = append(parts, key+"="+s)
		}
		return strings.Join(parts, ","), true
	}
	return "", false
}

func sorted[T any](m map[string]T) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// Address is where a service of the control plane is: "tulle-identity.tulle.svc.cluster.local.:8080".
// The dot at its end saves the search through the pod's domains.
func (m *Mesh) Address(service string, port int) string {
	return fmt.Sprintf("%s.%s.svc.%s.:%d", service, m.Namespace, m.ClusterDomain, port)
}

// Identity is the SPIFFE ID of an account of the control plane.
func (m *Mesh) Identity(account string) string {
	return "spiffe://" + m.TrustDomain + "/ns/" + m.Namespace + "/sa/" + account
}
