package demo

import (
	"fmt"
	"math"

	"github.com/tulle-mesh/tulle/internal/shop"
	"github.com/tulle-mesh/tulle/internal/shop/traffic"
)

// Agreement compares a service's row with what the generator saw at its end, which knows nothing of
// the mesh. Of the store it is the success rate alone: the table counts connections.
type Agreement struct {
	Service string `json:"service"`
	// Requests and OK are as the table has them, then as the generator has them.
	Requests [2]float64 `json:"requests"`
	OK       [2]float64 `json:"ok"`
	// Off is the larger of the two relative differences.
	Off Number `json:"off"`
}

// tolerance is how far the table may be off.
const tolerance = 0.02

// agree compares a table of the whole run with the generator's summary.
func agree(t Table, saw traffic.Summary) []Agreement {
	var all []Agreement
	for _, g := range saw.Services {
		r := t.row(g.Service)
		a := Agreement{Service: g.Service, Requests: [2]float64{r.Requests, float64(g.Requests)}, OK: [2]float64{r.OK, float64(g.OK)}}
		if g.Service == shop.Store {
			a.Requests, a.OK = [2]float64{1, 1}, [2]float64{float64(r.Success), float64(ratio(float64(g.OK), float64(g.Requests)))}
		}
		a.Off = Number(max(off(a.Requests), off(a.OK)))
		all = append(all, a)
	}
	return all
}

func off(v [2]float64) float64 {
	if v[0] == v[1] {
		return 0
	}
	return math.Abs(v[0]-v[1]) / v[1]
}

// disagree is an error that names what is off by more than the tolerance.
func disagree(all []Agreement) error {
	var wrong []string
	for _, a := range all {
		if !(a.Off <= tolerance) {
			wrong = append(wrong, fmt.Sprintf("%s: the table has %.0f requests, %.0f of them well; the generator %.0f, %.0f",
				a.Service, a.Requests[0], a.OK[0], a.Requests[1], a.OK[1]))
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("the table and the generator differ: %s", join(wrong))
}
