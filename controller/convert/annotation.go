package convert

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tulle-mesh/tulle/controller/state"
	"github.com/tulle-mesh/tulle/controller/status"
	"github.com/tulle-mesh/tulle/injector/config"
	"github.com/tulle-mesh/tulle/internal/mesh"
)

// Annotations that discovery obeys. The others of the table are the injector's.
const (
	annotationOpaque  = config.Prefix + config.OpaquePorts
	annotationDefault = config.Prefix + config.DefaultInboundPolicy
)

// problems collects what there is to say of an object.
type problems []status.Problem

func (p *problems) brokenf(field, format string, args ...any) {
	*p = append(*p, status.Problem{Severity: status.Broken, Field: field, Message: fmt.Sprintf(format, args...)})
}

func (p *problems) ignoredf(field, format string, args ...any) {
	*p = append(*p, status.Problem{Severity: status.Ignored, Field: field, Message: fmt.Sprintf(format, args...)})
}

func (p *problems) noticef(field, format string, args ...any) {
	*p = append(*p, status.Problem{Severity: status.Notice, Field: field, Message: fmt.Sprintf(format, args...)})
}

func (p *problems) isBroken() bool {
	return slices.ContainsFunc(*p, func(x status.Problem) bool { return x.Severity == status.Broken })
}

// rules reads the annotations of an object.
func (p *problems) rules(annots map[string]string) state.PortRules {
	var r state.PortRules
	for _, key := range sortedKeys(annots) {
		value := annots[key]
		field := "metadata.annotations[" + key + "]"
		port, perPort := strings.CutPrefix(key, annotationDefault+".")
		switch {
		case key == annotationOpaque:
			r.Opaque = p.ranges(field, value)
		case key == annotationDefault:
			if d, err := mesh.ParseDefault(value); err != nil {
				p.brokenf(field, "%v", err)
			} else {
				r.Default = &d
			}
		case perPort:
			n, ok := portNumber(port)
			d, err := mesh.ParseDefault(value)
			switch {
			case !ok:
				p.brokenf(field, "%q is not a port", port)
			case err != nil:
				p.brokenf(field, "%v", err)
			default:
				r.PortDefaults = append(r.PortDefaults, state.PortDefault{Port: n, Default: d})
			}
		case strings.HasPrefix(key, config.Prefix) && !isSetting(key):
			p.noticef(field, "is not an annotation that Tulle knows")
		}
	}
	slices.SortFunc(r.PortDefaults, func(a, b state.PortDefault) int { return cmp.Compare(a.Port, b.Port) })
	return r
}

func portNumber(s string) (uint16, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err == nil && n != 0
}

func isSetting(annotation string) bool {
	return slices.ContainsFunc(config.Table(), func(s config.Setting) bool { return s.Annotation() == annotation })
}

// ranges reads "25,3306,9000-9099". It is never nil: an empty list is said, too.
func (p *problems) ranges(field, value string) []state.PortRange {
	out := []state.PortRange{}
	for part := range strings.SplitSeq(value, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		a, err := strconv.ParseUint(from, 10, 16)
		b, err2 := strconv.ParseUint(to, 10, 16)
		if err != nil || err2 != nil || a == 0 || a > b {
			p.brokenf(field, "%q is neither a port nor a range of ports", part)
			continue
		}
		out = append(out, state.PortRange{From: uint16(a), To: uint16(b)})
	}
	return out
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
