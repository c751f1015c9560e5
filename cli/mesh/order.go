package mesh

import utilversion "k8s.io/apimachinery/pkg/util/version"

// Older reports whether version a comes before b; what cannot be read comes before nothing.
func Older(a, b string) bool {
	va, errA := utilversion.ParseSemantic(a)
	vb, errB := utilversion.ParseSemantic(b)
	return errA == nil && errB == nil && va.LessThan(vb)
}
