// Package cli is the command line: it puts the commands together, one package each, and knows what is
// none of theirs: global flags, names that are programs of their own, and how mistakes are told.
package cli
