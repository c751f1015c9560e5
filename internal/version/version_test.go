package version

import (
	"regexp"
	"runtime/debug"
	"testing"
)

func TestNumberIsSemantic(t *testing.T) {
	if n := Number(); !regexp.MustCompile(`^\d+\.\d+\.\d+(-[0-9a-z.]+)?$`).MatchString(n) {
		t.Errorf("VERSION holds %q, which is no semantic version", n)
	}
}

func TestDescribe(t *testing.T) {
	revision := debug.BuildSetting{Key: "vcs.revision", Value: "0123456789abcdef"}
	for _, c := range []struct {
		name     string
		settings []debug.BuildSetting
		want     string
	}{
		{"a build without a repository", nil, "1.2.3"},
		{"a clean commit", []debug.BuildSetting{revision, {Key: "vcs.modified", Value: "false"}}, "1.2.3 (0123456789ab)"},
		{"a changed tree", []debug.BuildSetting{revision, {Key: "vcs.modified", Value: "true"}}, "1.2.3 (0123456789ab, modified)"},
		{"a short revision", []debug.BuildSetting{{Key: "vcs.revision", Value: "01"}}, "1.2.3 (01)"},
	} {
		if got := describe("1.2.3", c.settings); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}
