package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tulle-mesh/tulle/injector/skip"
)

// Source is where a setting's value came from.
type Source string

// Sources, the weakest first.
const (
	FromDefault   Source = "default"
	FromChart     Source = "values"
	FromNamespace Source = "namespace"
	FromPod       Source = "pod"
)

// Layer is an object whose annotations set something.
type Layer struct {
	From Source
	// Object names it in messages: "pod shop/web-1".
	Object      string
	Annotations map[string]string
}

// Value is a setting in force and where it came from.
type Value struct {
	Name string // without Prefix
	Text string // canonical
	From Source
	// Object is the one that said it: "namespace shop"; empty for defaults.
	Object string
}

// Notice is something that an operator should know and that hinders nothing.
type Notice struct {
	Object, Annotation, Message string
}

func (n Notice) String() string {
	return fmt.Sprintf("%s: annotation %s: %s", n.Object, n.Annotation, n.Message)
}

// Settings are the values in force for one pod. The zero value is not usable: Resolve makes them.
type Settings struct {
	all []Value // in the table's order
	// portDefaults are default-inbound-policy.PORT of all layers, the strongest word for each port.
	portDefaults []Value
}

// Resolve puts layers, the weakest first, over the mesh's values. All mistakes are told at once.
func (m *Mesh) Resolve(layers ...Layer) (*Settings, []Notice, error) {
	s := &Settings{}
	var notices []Notice
	var errs []error
	table := Table()
	for _, row := range table {
		v := Value{Name: row.Name, Text: row.Default, From: FromDefault}
		if text, ok := m.values[row.Name]; ok {
			v.Text, v.From, v.Object = text, FromChart, "ConfigMap "+m.Namespace+"/"+ConfigMap
		}
		for _, l := range layers {
			text, ok := l.Annotations[row.Annotation()]
			if !ok {
				continue
			}
			canonical, good := row.kind.read(strings.TrimSpace(text))
			if !good {
				errs = append(errs, &Mistake{Object: l.Object, Annotation: row.Annotation(), Value: text, Want: row.Wants()})
				continue
			}
			v.Text, v.From, v.Object = canonical, l.From, l.Object
		}
		if row.Missing != "" && v.Text != row.Default {
			notices = append(notices, Notice{v.Object, row.Annotation(), fmt.Sprintf("%q has no effect: %s", v.Text, row.Missing)})
		}
		s.all = append(s.all, v)
	}
	for _, l := range layers {
		more, mistakes := s.others(l, table)
		notices, errs = append(notices, more...), append(errs, mistakes...)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, notices, err
	}
	return s, notices, nil
}

// Mistake is an annotation whose value cannot be.
type Mistake struct {
	Object, Annotation, Value, Want string
}

func (m *Mistake) Error() string {
	return fmt.Sprintf("%s: annotation %s=%q: want %s", m.Object, m.Annotation, m.Value, m.Want)
}

// others looks at the annotations that no row of the table has: those for one port, and unknown ones.
func (s *Settings) others(l Layer, table []Setting) (notices []Notice, errs []error) {
	for _, key := range sorted(l.Annotations) {
		name, ours := strings.CutPrefix(key, Prefix)
		if !ours || slices.ContainsFunc(table, func(r Setting) bool { return r.Name == name }) {
			continue
		}
		port, perPort := strings.CutPrefix(name, DefaultInboundPolicy+".")
		if !perPort {
			notices = append(notices, Notice{l.Object, key, "is no setting of this version" + nearest(name, table)})
			continue
		}
		value := strings.TrimSpace(l.Annotations[key])
		if _, ok := (number{1, 65535}).read(port); !ok {
			errs = append(errs, &Mistake{l.Object, key, value, "a port from 1 to 65535 at the name's end"})
		} else if _, ok := (policy{}).read(value); !ok {
			errs = append(errs, &Mistake{l.Object, key, value, policy{}.wants()})
		} else {
			s.portDefaults = append(s.portDefaults, Value{name, value, l.From, l.Object})
		}
	}
	return notices, errs
}

// nearest suggests a name that was probably meant.
func nearest(name string, table []Setting) string {
	for _, r := range table {
		if strings.Contains(r.Name, name) || strings.Contains(name, r.Name) || oneEdit(name, r.Name) {
			return "; did you mean " + r.Annotation() + "?"
		}
	}
	return ""
}

// oneEdit reports whether a becomes b by one letter more, less or other, or by two that change places.
func oneEdit(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	switch len(b) - len(a) {
	case 0:
		if i+1 < len(a) && a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:] {
			return true
		}
		return i < len(a) && a[i+1:] == b[i+1:]
	case 1:
		return a[i:] == b[i+1:]
	}
	return false
}

// All are the settings in force in the table's order, then those for single ports.
func (s *Settings) All() []Value { return append(slices.Clone(s.all), s.portDefaults...) }

// Get returns a setting by its name, one of the constants.
func (s *Settings) Get(name string) Value {
	for _, v := range s.all {
		if v.Name == name {
			return v
		}
	}
	panic("BUG: no setting is called " + name)
}

// Text is the canonical value.
func (s *Settings) Text(name string) string { return s.Get(name).Text }

// IsEnabled is for settings that are enabled or disabled.
func (s *Settings) IsEnabled(name string) bool { return s.Text(name) == Enabled }

// Number is for settings that are a number.
func (s *Settings) Number(name string) int {
	n, err := strconv.Atoi(s.Text(name))
	if err != nil {
		panic("BUG: " + name + " is no number")
	}
	return n
}

// Duration is for settings that are a duration.
func (s *Settings) Duration(name string) time.Duration {
	d, err := time.ParseDuration(s.Text(name))
	if err != nil {
		panic("BUG: " + name + " is no duration")
	}
	return d
}

// Key is one value of a setting that has several: Key(Drain, "timeout"); "" when it is not said.
func (s *Settings) Key(name, key string) string {
	for part := range skip.Fields(s.Text(name)) {
		if k, v, _ := strings.Cut(part, "="); k == key {
			return v
		}
	}
	return ""
}

// Ports is for settings that are a list of ports.
func (s *Settings) Ports(name string) []skip.PortRange {
	p, ok := skip.ParsePorts(s.Text(name))
	if !ok {
		panic("BUG: " + name + " is no list of ports")
	}
	return p
}

// Subnets is for settings that are a list of networks.
func (s *Settings) Subnets(name string) []netip.Prefix {
	p, ok := skip.ParseSubnets(s.Text(name))
	if !ok {
		panic("BUG: " + name + " is no list of networks")
	}
	return p
}

// Variable is one of the proxy's environment.
type Variable struct{ Name, Value string }

// Environment is what the settings say to the proxy, in the table's order. Defaults are not in it: the
// proxy has the same.
func (s *Settings) Environment() []Variable {
	var out []Variable
	for i, row := range Table() {
		v := s.all[i]
		if v.Text == row.Default {
			continue
		}
		add := func(name, text string) {
			if name != "" && text != "" {
				out = append(out, Variable{name, text})
			}
		}
		switch v.Text {
		case Enabled:
			add(row.env, "on")
		case Disabled:
			add(row.env, "off")
		default:
			add(row.env, v.Text)
		}
		if keys, ok := row.kind.(keyed); ok {
			for _, e := range keys {
				add(e.name, s.Key(row.Name, e.key))
			}
		}
	}
	return out
}
