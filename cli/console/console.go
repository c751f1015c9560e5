// Package console is how commands speak: tables, JSON and YAML, and colour where a person looks on.
package console

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/charmbracelet/x/term"
	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/tulle-mesh/tulle/cli/exit"
	"github.com/tulle-mesh/tulle/internal/run"
)

// Console is where a command reads and writes. It is immutable.
type Console struct {
	run.Streams
	// color says for Out and for Err whether escapes are understood.
	outColor, errColor bool
}

// New makes a Console of s. Colour is for terminals alone, and never when NO_COLOR is set
// (https://no-color.org) or TERM is dumb.
func New(s run.Streams, getenv func(string) string) *Console {
	may := getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
	return &Console{Streams: s, outColor: may && terminal(s.Out), errColor: may && terminal(s.Err)}
}

func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(f.Fd())
}

// Style is a colour by its meaning.
type Style string

// Styles, as SGR parameters (ECMA-48).
const (
	Good   Style = "32"
	Doubt  Style = "33"
	Bad    Style = "31"
	Strong Style = "1"
	Faint  Style = "2"
)

// Paint colours s for Out.
func (c *Console) Paint(style Style, s string) string { return paint(c.outColor, style, s) }

// PaintErr colours s for Err.
func (c *Console) PaintErr(style Style, s string) string { return paint(c.errColor, style, s) }

func paint(colored bool, style Style, s string) string {
	if !colored || s == "" {
		return s
	}
	return "\x1b[" + string(style) + "m" + s + "\x1b[0m"
}

// Live reports whether somebody looks at Err while the command runs.
func (c *Console) Live() bool { return c.errColor || terminal(c.Err) }

// Format is how a result is written.
type Format string

// Formats.
const (
	Table Format = "table"
	JSON  Format = "json"
	YAML  Format = "yaml"
	Short Format = "short"
	Wide  Format = "wide"
)

// Flag defines -o on c with the formats that it has, the first as the default.
func Flag(c *cobra.Command, to *Format, formats ...Format) {
	*to = formats[0]
	names := make([]string, len(formats))
	for i, f := range formats {
		names[i] = string(f)
	}
	c.Flags().VarP(&formatValue{to, formats}, "output", "o", strings.Join(names, "|"))
	if err := c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic("BUG: " + err.Error())
	}
}

type formatValue struct {
	to      *Format
	formats []Format
}

func (v *formatValue) String() string { return string(*v.to) }
func (v *formatValue) Type() string   { return "format" }
func (v *formatValue) Set(s string) error {
	if !slices.Contains(v.formats, Format(s)) {
		return fmt.Errorf("want one of %v", v.formats)
	}
	*v.to = Format(s)
	return nil
}

// Write writes v in format f; table draws it for people.
func (c *Console) Write(f Format, v any, table func(w io.Writer) error) error {
	switch f {
	case JSON:
		e := json.NewEncoder(c.Out)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(v)
	case YAML:
		b, err := yaml.Marshal(v)
		if err != nil {
			return err
		}
		_, err = c.Out.Write(b)
		return err
	default:
		return table(c.Out)
	}
}

// Usage is a mistake of whoever typed the command.
func Usage(c *cobra.Command, format string, args ...any) error {
	return exit.With(exit.Usage, fmt.Errorf(format, args...), c.CommandPath()+" --help")
}
