package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/tulle-mesh/tulle/internal/leak"
	"github.com/tulle-mesh/tulle/internal/run"
)

func TestMain(m *testing.M) { leak.Main(m) }

func TestMistakesAreExplainedWithExitCode2(t *testing.T) { // R13.3
	for args, want := range map[string]string{
		"now":                         `"now" is no flag`,
		"--inbound-port 0":            "want ports from 1 to 65535",
		"--outbound-port 65536":       "want ports from 1 to 65535",
		"--proxy-uid 0":               "a user that is not root",
		"--proxy-uid many":            "invalid value",
		"--skip-inbound-ports http":   "want ports such as 22,9000-9010",
		"--skip-outbound-ports 9-1":   "want ports such as 22,9000-9010",
		"--skip-subnets 10.0.0.0":     "networks such as 10.1.0.0/16",
		"--unknown":                   "flag provided but not defined",
		"--skip-subnets 10.0.0.0/8 x": `"x" is no flag`,
	} {
		var out, errs bytes.Buffer
		err := command(t.Context(), strings.Fields(args), run.Streams{Out: &out, Err: &errs})
		exit, ok := errors.AsType[*run.ExitError](err)
		if !ok || exit.Code != 2 || !strings.Contains(errs.String()+err.Error(), want) {
			t.Errorf("%q: %v, says %q, want %q", args, err, errs.String(), want)
		}
	}
}
