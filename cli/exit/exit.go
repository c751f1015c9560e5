// Package exit holds the exit codes of tulle and the errors that choose them. The table is the one place
// that says what a code means: `tulle help exit-codes` and docs/cli.md are made from it.
package exit

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tulle-mesh/tulle/internal/run"
)

// The exit codes of every command.
const (
	Done        = 0
	Failed      = 1
	Usage       = 2
	Unreachable = 3
	Refused     = 4
	Unhealthy   = 5
)

// Meaning is one row of the table.
type Meaning struct {
	Code int
	What string
}

// Table lists the codes.
func Table() []Meaning {
	return []Meaning{
		{Done, "done; for check: no check failed, warnings may have been given"},
		{Failed, "it was tried and went wrong; what was printed so far is not complete"},
		{Usage, "the command was not understood: a flag, an argument or a value"},
		{Unreachable, "the cluster was not reached, or refused who is asking; nothing was changed"},
		{Refused, "the cluster is not in a state for it, such as: already installed, CRDs missing, pods still injected"},
		{Unhealthy, "check: at least one check failed"},
	}
}

// Text is the table for people.
func Text() string {
	var b strings.Builder
	for _, m := range Table() {
		fmt.Fprintf(&b, "  %d  %s\n", m.Code, m.What)
	}
	return b.String()
}

// Error is an error with the thing to try next.
type Error struct {
	Err error
	// Hint is a sentence or a command; empty: there is nothing to try.
	Hint string
}

func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Err.Error()
	}
	return e.Err.Error() + "\n  try: " + e.Hint
}

func (e *Error) Unwrap() error { return e.Err }

// With gives err an exit code and a hint. An error that has a code already keeps it.
func With(code int, err error, hint string) error {
	if chosen, ok := errors.AsType[*run.ExitError](err); ok {
		code = chosen.Code
	}
	return &run.ExitError{Code: code, Err: &Error{Err: err, Hint: hint}}
}

// Code is the exit code that err stands for.
func Code(err error) int {
	if err == nil {
		return Done
	}
	if chosen, ok := errors.AsType[*run.ExitError](err); ok {
		return chosen.Code
	}
	return Failed
}

// Args makes a mistake in the number of arguments one of usage.
func Args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return With(Usage, fmt.Errorf("%s: %w", c.CommandPath(), err), c.CommandPath()+" --help")
		}
		return nil
	}
}
