// Package identityv1 is the wire form of the identity service: certificates for workloads, and the
// trust bundle as it changes.
package identityv1
