// Package api is the root of what Tulle's parts say to each other: Protocol Buffers sources
// beside the Go code generated from them (by generate.sh; never edited by hand).
//
// What holds for all of them, because old and new versions of proxies and control plane meet in
// every upgrade:
//   - Fields are only ever added; a retired number is reserved. Who does not know a field keeps it.
//   - The zero of an enum is what a sender means that says nothing. A value that a reader may not
//     know yet is sent only to peers whose hello lists the feature that brought it.
//   - Both sides of a stream begin with a hello that lists their features. What one side lists and
//     the other does not is not used; an unknown feature in a list is ignored.
//   - State is sent in messages with a version, and each version is acknowledged or refused with a
//     reason by who received it.
package api
