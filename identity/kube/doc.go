// Package kube is what the identity service has of Kubernetes: Tokens, the proof that pods bring (projected
// service account tokens, asked about with TokenReview); Secrets, where replicas keep one authority;
// Replicas, who of them changes things, and how far the proxies of each are; and Bundles, which puts the
// trust bundle where pods mount it.
package kube

// Names of what is kept in the control plane's namespace, and in every namespace with meshed pods.
const (
	RootSecret   = "tulle-identity-root"
	IssuerSecret = "tulle-identity-issuer"
	LeaseName    = "tulle-identity"

	BundleConfigMap = "tulle-trust-bundle"
	BundleKey       = "trust-bundle.pem"

	// Audience is what tokens must be made for.
	Audience = "identity.tulle.dev"
)

// ManagedBy marks what this package made and changes, by the label app.kubernetes.io/managed-by. Secrets
// without it are somebody else's, who renews them.
const (
	managedLabel = "app.kubernetes.io/managed-by"
	partLabel    = "app.kubernetes.io/part-of"
	ManagedBy    = "tulle-identity"
)

func labels() map[string]string {
	return map[string]string{managedLabel: ManagedBy, partLabel: "tulle"}
}
