// Package identity keeps a proxy certified: it makes the key, proves who the proxy is, renews before
// the certificate ends, and follows the trust bundle. It is ordinary Go beside the workers, and what
// the destination service uses for its own leaf.
//
// Rules R10.1 to R10.3. The key is made in memory for each certificate and never leaves it. The first
// certificate costs a token; later ones are renewed by the one before (docs/decisions/0007-renewal.md).
// While the identity service is away the proxy serves on and says that it is degraded.
package identity
