package check

import (
	"context"
	"errors"
	"fmt"

	"github.com/tulle-mesh/tulle/cli/exit"
)

// Status is how a check ended.
type Status string

// Statuses.
const (
	OK      Status = "ok"
	Warning Status = "warning"
	Failure Status = "failure"
	Skipped Status = "skipped"
)

// Finding is what a check found.
type Finding struct {
	Status Status
	// Problems are sentences, one for each thing that is wrong.
	Problems []string
	// Note says something about a good answer, or why the check was skipped.
	Note string
	// Fix is YAML that would mend it.
	Fix string
	// Try replaces the check's hint where the answer itself says what to try.
	Try string
}

func ok(format string, args ...any) Finding {
	return Finding{Status: OK, Note: fmt.Sprintf(format, args...)}
}

func skip(format string, args ...any) Finding {
	return Finding{Status: Skipped, Note: fmt.Sprintf(format, args...)}
}

func fail(format string, args ...any) Finding {
	return Finding{Status: Failure, Problems: []string{fmt.Sprintf(format, args...)}}
}

func warn(format string, args ...any) Finding {
	return Finding{Status: Warning, Problems: []string{fmt.Sprintf(format, args...)}}
}

// trying is f with what is to be tried.
func (f Finding) trying(what string) Finding {
	f.Try = what
	return f
}

// failures is a failure where there are problems, and note where there are none.
func failures(problems []string, note string) Finding { return judge(Failure, problems, note) }

// warnings is a warning where there are problems, and note where there are none.
func warnings(problems []string, note string) Finding { return judge(Warning, problems, note) }

func judge(bad Status, problems []string, note string) Finding {
	if len(problems) == 0 {
		return Finding{Status: OK, Note: note}
	}
	return Finding{Status: bad, Problems: problems}
}

// unknown is for a question that the cluster did not answer.
func unknown(err error) Finding {
	if e, ok := errors.AsType[*exit.Error](err); ok && e.Hint != "" {
		return Finding{Status: Failure, Problems: []string{e.Err.Error()}, Try: e.Hint}
	}
	return Finding{Status: Failure, Problems: []string{err.Error()}}
}

// Mode is when a check is made.
type Mode int

// Modes; a check has one or several.
const (
	Before  Mode = 1 << iota // --pre
	After                    // plain, and --proxy
	Proxies                  // --proxy
)

// Check is one row of the table.
type Check struct {
	Group, Name string
	// Anchor is its section in docs/checks.md and its name for --only.
	Anchor string
	// Hint is the next thing to try when it fails.
	Hint string
	// Keeper is the Deployment of the control plane that keeps what is asked about in order, if one does: where it does
	// not run, that is what to mend, and the hint is of no use.
	Keeper string
	// Modes says when it is made.
	Modes Mode
	// Fatal: when it fails, nothing after it means anything.
	Fatal bool
	// Waits: while it fails, it is made again until --wait is over.
	Waits bool
	// Run asks. It must end with ctx.
	Run func(ctx context.Context, e *env) Finding
}

// page is where anchors are explained.
const page = "https://github.com/tulle-mesh/tulle/blob/main/docs/checks.md#"

// See is the address that explains the check.
func (c *Check) See() string { return page + c.Anchor }

// count is "1 check", "2 checks".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
