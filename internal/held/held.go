// Package held is what a proxy's admin port says of what the proxy holds: the proxy writes it, the command line reads it.
package held

// Endpoint is one of the list at /debug/endpoints: an endpoint of a target, as one worker sees it.
type Endpoint struct {
	Target   string `json:"target"`
	Addr     string `json:"addr"`
	Identity string `json:"identity,omitempty"`
	// NoTLS is why it is plaintext, where it has no Identity.
	NoTLS  string `json:"noTls,omitempty"`
	Pod    string `json:"pod,omitempty"`
	Zone   string `json:"zone,omitempty"`
	Weight uint32 `json:"weight"`
	Load   int    `json:"load"` // requests or connections in flight
	// EstimateMs is the latency by which it is chosen, in milliseconds.
	EstimateMs  float64 `json:"estimateMs"`
	Ejected     bool    `json:"ejected"`
	Terminating bool    `json:"terminating"`
	Worker      int     `json:"worker"`
}
