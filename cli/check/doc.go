// Package check is tulle check: a table of checks, each of which asks a cluster one question and, where
// the answer is bad, says what to do and where docs/checks.md explains it.
//
// A check is a value: adding one is a row in table.go and a section in docs/checks.md. It reads; the only
// things that it creates are access reviews and a pod in dry run, which leave nothing behind.
package check
