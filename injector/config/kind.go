package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/tulle-mesh/tulle/injector/skip"
	"github.com/tulle-mesh/tulle/internal/mesh"
)

// kind is what values of a setting look like.
type kind interface {
	// wants completes "want …".
	wants() string
	// read returns the canonical form of v.
	read(v string) (string, bool)
}

type number struct{ low, high int }

func (k number) wants() string { return fmt.Sprintf("a number from %d to %d", k.low, k.high) }

func (k number) read(v string) (string, bool) {
	n, err := strconv.Atoi(v)
	return strconv.Itoa(n), err == nil && n >= k.low && n <= k.high
}

// quantity is an amount of Kubernetes', or nothing.
type quantity struct{}

func (quantity) wants() string { return "a positive amount such as 100m or 64Mi, or nothing" }

func (quantity) read(v string) (string, bool) {
	if v == "" {
		return "", true
	}
	q, err := resource.ParseQuantity(v)
	return q.String(), err == nil && q.Sign() > 0
}

// leastMemory is what a proxy can begin to work with, in bytes.
const leastMemory = 16 << 20

type memory struct{}

func (memory) wants() string { return "an amount of at least 16Mi, or nothing" }

func (memory) read(v string) (string, bool) {
	c, ok := quantity{}.read(v)
	if !ok || c == "" {
		return c, ok
	}
	q := resource.MustParse(c)
	return c, q.Value() >= leastMemory
}

type oneOf []string

func (k oneOf) wants() string {
	last := len(k) - 1
	return strings.Join(k[:last], ", ") + " or " + k[last]
}

func (k oneOf) read(v string) (string, bool) { return v, slices.Contains(k, v) }

type toggle struct{}

func (toggle) wants() string { return oneOf{Enabled, Disabled}.wants() }

func (toggle) read(v string) (string, bool) { return oneOf{Enabled, Disabled}.read(v) }

type policy struct{}

func (policy) wants() string {
	return "all-unauthenticated, all-authenticated, cluster-authenticated, deny or audit"
}

func (policy) read(v string) (string, bool) {
	_, err := mesh.ParseDefault(v)
	return v, err == nil
}

// word is one word, which something else gives its sense.
type word struct{ what string }

func (k word) wants() string { return k.what }

func (word) read(v string) (string, bool) {
	return v, v != "" && !strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r > '~' })
}

type percent struct{}

func (percent) wants() string { return "a percentage such as 1%" }

func (percent) read(v string) (string, bool) {
	f, err := strconv.ParseFloat(strings.TrimSuffix(v, "%"), 64)
	ok := err == nil && f >= 0 && f <= 100 && strings.HasSuffix(v, "%") // NaN is neither
	return strconv.FormatFloat(f, 'g', -1, 64) + "%", ok
}

// seconds is a duration of whole seconds: Kubernetes sleeps no others.
type seconds struct{}

func (seconds) wants() string { return "whole seconds such as 5s, or 0s" }

func (seconds) read(v string) (string, bool) {
	d, err := time.ParseDuration(v)
	return d.String(), err == nil && d >= 0 && d%time.Second == 0 && d <= time.Hour
}

type ports struct{}

func (ports) wants() string { return "ports and ranges of ports such as 3306,9000-9099, or nothing" }

func (ports) read(v string) (string, bool) {
	all, ok := skip.ParsePorts(v)
	return list(all), ok
}

type subnets struct{}

func (subnets) wants() string { return "networks such as 10.0.0.0/8,fd00::/8, or nothing" }

func (subnets) read(v string) (string, bool) {
	all, ok := skip.ParseSubnets(v)
	return list(all), ok
}

// keyed is "key=value,key=value", each key at most once.
type keyed []entry

// entry is a key, what its values look like and the variable of the proxy that it becomes.
type entry struct {
	key  string
	of   kind
	name string
}

func (k keyed) wants() string {
	var parts []string
	for _, e := range k {
		parts = append(parts, e.key+"="+e.of.wants())
	}
	return "some of " + strings.Join(parts, "; ")
}

func (k keyed) read(v string) (string, bool) {
	seen := map[string]string{}
	for part := range skip.Fields(v) {
		key, value, _ := strings.Cut(part, "=")
		i := slices.IndexFunc(k, func(e entry) bool { return e.key == key })
		if _, twice := seen[key]; i < 0 || twice {
			return "", false
		}
		canonical, good := k[i].of.read(value)
		if !good {
			return "", false
		}
		seen[key] = canonical
	}
	var out []string
	for _, e := range k {
		if value, ok := seen[e.key]; ok {
			out = append(out, e.key+"="+value)
		}
	}
	return strings.Join(out, ","), true
}

type duration struct{}

func (duration) wants() string { return "a positive duration" }

func (duration) read(v string) (string, bool) {
	d, err := time.ParseDuration(v)
	return d.String(), err == nil && d > 0
}

// list joins what has a String.
func list[T fmt.Stringer](all []T) string {
	var out []string
	for _, one := range all {
		out = append(out, one.String())
	}
	return strings.Join(out, ",")
}
