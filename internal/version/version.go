// Package version says which Tulle this is.
package version

import (
	_ "embed" // the VERSION file is the one place that says it; tools/release changes it
	"runtime/debug"
	"strings"
)

//go:embed VERSION
var number string

// Number is the semantic version of this source, without a "v": 0.1.0 where that was released, and 0.1.0-dev everywhere
// between the release before and it.
func Number() string { return strings.TrimSpace(number) }

// String is Number and, where the build recorded it, the commit: "0.1.0-dev (3f2a9c1d04be, modified)".
func String() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return Number()
	}
	return describe(Number(), info.Settings)
}

// describe appends what the build knows about the commit to n.
func describe(n string, settings []debug.BuildSetting) string {
	var revision, modified string
	for _, s := range settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value[:min(len(s.Value), 12)]
		case "vcs.modified":
			if s.Value == "true" {
				modified = ", modified"
			}
		}
	}
	if revision == "" {
		return n
	}
	return n + " (" + revision + modified + ")"
}
