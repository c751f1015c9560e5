package house

import (
	"regexp"
	"strings"
	"testing"

	"github.com/tulle-mesh/tulle/internal/version"
)

// The first heading of CHANGELOG.md is of the version that the source says, and dated when that is released
// (docs/release.md).
func TestTheChangelogIsOfThisVersion(t *testing.T) {
	heading := regexp.MustCompile(`(?m)^## (.*)$`).FindStringSubmatch(read(t, "CHANGELOG.md"))
	number, working := strings.CutSuffix(version.Number(), "-dev")
	if heading == nil || !isHeading(heading[1], number, working) {
		t.Errorf("internal/version says %s, and the first heading of CHANGELOG.md is %q", version.Number(), heading)
	}
}

func isHeading(text, number string, working bool) bool {
	if working {
		return text == number+" - not released yet"
	}
	return regexp.MustCompile(`^` + regexp.QuoteMeta(number) + ` - \d{4}-\d\d-\d\d$`).MatchString(text)
}

func TestAHeadingSaysWhetherItIsReleased(t *testing.T) {
	for _, c := range []struct {
		text    string
		working bool
		want    bool
	}{
		{"1.2.3 - not released yet", true, true},
		{"1.2.3 - not released yet", false, false},
		{"1.2.3 - 2026-11-21", false, true},
		{"1.2.3 - 2026-11-21", true, false},
		{"1.2.2 - 2026-11-21", false, false},
		{"Unreleased", true, false},
	} {
		if got := isHeading(c.text, "1.2.3", c.working); got != c.want {
			t.Errorf("%q, in the making: %t: %t", c.text, c.working, got)
		}
	}
}
