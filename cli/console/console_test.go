package console

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/tulle-mesh/tulle/internal/run"
)

func quiet(string) string { return "" }

func TestColourIsForTerminals(t *testing.T) {
	var out bytes.Buffer
	c := New(run.Streams{Out: &out, Err: &out}, quiet)
	if got := c.Paint(Bad, "x") + c.PaintErr(Good, "y"); got != "xy" || c.Live() {
		t.Errorf("a buffer is no terminal, and got %q", got)
	}
	c.outColor = true
	if got := c.Paint(Bad, "x"); got != "\x1b[31mx\x1b[0m" {
		t.Errorf("got %q", got)
	}
}

func TestRowsStandInColumns(t *testing.T) {
	var out strings.Builder
	err := Rows(&out, [][]string{{"NAME", "ÄÖ", "LAST"}, {"a", "1", ""}, {"longer", "\x1b[31mred", "x\ty"}})
	if want := "NAME     ÄÖ         LAST\na        1\nlonger   �[31mred   x y\n"; err != nil || out.String() != want {
		t.Errorf("%v: got\n%q\nwant\n%q", err, out.String(), want)
	}
}

func TestFormats(t *testing.T) {
	type thing struct {
		Name string `json:"name"`
	}
	for f, want := range map[Format]string{JSON: "{\n  \"name\": \"<a>\"\n}\n", YAML: "name: <a>\n", Table: "table\n"} {
		var out bytes.Buffer
		c := New(run.Streams{Out: &out}, quiet)
		err := c.Write(f, thing{"<a>"}, func(w io.Writer) error { _, err := io.WriteString(w, "table\n"); return err })
		if err != nil || out.String() != want {
			t.Errorf("%s: %v, %q, want %q", f, err, out.String(), want)
		}
	}
	var f Format
	cmd := &cobra.Command{}
	Flag(cmd, &f, Table, JSON)
	if err := cmd.ParseFlags([]string{"-o", "yaml"}); err == nil || f != Table {
		t.Errorf("a format that is not offered: %v, %s", err, f)
	}
	if err := cmd.ParseFlags([]string{"--output=json"}); err != nil || f != JSON {
		t.Errorf("%v, %s", err, f)
	}
}
