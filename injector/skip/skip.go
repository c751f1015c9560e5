// Package skip reads the lists of ports and networks that go round a proxy, as annotations write them and
// as tulle-init is given them. It imports the standard library alone: tulle-init is small.
package skip

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// PortRange is From to To, both included.
type PortRange struct{ From, To uint16 }

func (r PortRange) String() string {
	if r.From == r.To {
		return strconv.Itoa(int(r.From))
	}
	return fmt.Sprintf("%d-%d", r.From, r.To)
}

// Contains reports whether p is in r.
func (r PortRange) Contains(p uint16) bool { return p >= r.From && p <= r.To }

// ParsePorts reads "25,3306,9000-9099"; "" is none.
func ParsePorts(s string) ([]PortRange, bool) {
	var out []PortRange
	for part := range Fields(s) {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		a, err := strconv.ParseUint(from, 10, 16)
		b, err2 := strconv.ParseUint(to, 10, 16)
		if err != nil || err2 != nil || a == 0 || a > b {
			return nil, false
		}
		out = append(out, PortRange{uint16(a), uint16(b)})
	}
	return out, true
}

// ParseSubnets reads "10.0.0.0/8,fd00::/8"; "" is none.
func ParseSubnets(s string) ([]netip.Prefix, bool) {
	var out []netip.Prefix
	for part := range Fields(s) {
		p, err := netip.ParsePrefix(part)
		if err != nil || p.Addr().Is4In6() {
			return nil, false
		}
		out = append(out, p.Masked())
	}
	return out, true
}

// Fields are the parts of a list with commas, without spaces and empty ones.
func Fields(s string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for part := range strings.SplitSeq(s, ",") {
			if part = strings.TrimSpace(part); part != "" && !yield(part) {
				return
			}
		}
	}
}
