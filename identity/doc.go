// Package identity is the certificate authority of the mesh: it signs certificates for workloads
// that prove who they are, and tells every proxy which roots to trust.
//
// Authority holds the roots and the issuer, and changes them one step at a time; Rotator decides
// when. JoinTokens is the proof that workloads outside a cluster bring (a TokenValidator). Server
// puts both behind Identity.Certify and Identity.WatchTrust (server.go, where protobuf stops).
//
// Roots sign issuers, issuers sign leaves; a chain that a workload gets is leaf and issuer. A leaf's
// only name is its SPIFFE ID. Rules R10.1 to R10.3 of docs/behaviour.md, and the X.509-SVID standard.
package identity
