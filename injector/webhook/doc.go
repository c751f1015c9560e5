// Package webhook is the injector: it answers the API server's question about every new pod with what
// injector/inject makes of it (rule R13.1). Around that stand its certificates, which it makes and rotates
// by itself and shares with its replicas through a Secret; the caBundle that the API server trusts, which
// nobody else sets; the mirror of each Namespace's annotation in its label, which the API server can select
// by; and a sweep for pods that should have a proxy and have none.
//
// What writes to many objects (mirror, sweep) runs in one replica at a time, which holds a Lease.
package webhook

// Names of what the injector reads and writes.
const (
	// Path is where the API server asks.
	Path = "/inject"
	// WebhookConfig is the MutatingWebhookConfiguration whose caBundle it sets.
	WebhookConfig = "tulle-injector"
	// Service is what the API server calls, in the control plane's namespace.
	Service = "tulle-injector"
	// Secret holds the certificates.
	Secret = "tulle-injector-tls"
	// Lease elects who mirrors and sweeps.
	Lease = "tulle-injector"
)
