// Package hpack is HPACK (RFC 7541) on byte slices: no strings and, once a
// connection is warm, no allocation. Decoder and Encoder are the two sides of
// one connection; both are driven field by field, so that the caller bounds what
// it keeps.
package hpack
