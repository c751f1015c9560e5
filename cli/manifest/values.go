package manifest

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/strvals"

	"github.com/tulle-mesh/tulle/charts"
	"github.com/tulle-mesh/tulle/cli/exit"
)

// Flags are what a user sets about the chart, in helm's notation and order of strength.
type Flags struct {
	Profiles                []string
	HA                      bool
	Files                   []string
	Set, SetString, SetFile []string
}

// Register defines the flags on c.
func (f *Flags) Register(c *cobra.Command) {
	fs := c.Flags()
	names, err := charts.Profiles(charts.Tulle)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	fs.StringArrayVar(&f.Profiles, "profile", nil, "set of values: "+strings.Join(names, ", ")+"; may be repeated, the later wins")
	fs.BoolVar(&f.HA, "ha", false, "the profile ha: three replicas on different nodes, and admission that fails closed")
	fs.StringArrayVarP(&f.Files, "values", "f", nil, "file with values, - for the input; may be repeated, the later wins")
	fs.StringArrayVar(&f.Set, "set", nil, "a value, over the files': a.b=1,c={x,y}; may be repeated")
	fs.StringArrayVar(&f.SetString, "set-string", nil, "as --set, and the value stays text")
	fs.StringArrayVar(&f.SetFile, "set-file", nil, "as --set, and the value is read from the file named: a.b=FILE")
	if err := c.RegisterFlagCompletionFunc("profile", cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic("BUG: " + err.Error())
	}
}

// Wishes are what a user wants other than the chart's own values. An upgrade keeps them and nothing else:
// the defaults of an old version are not a wish.
type Wishes struct {
	Profiles []string       `json:"profiles,omitempty"`
	Values   map[string]any `json:"values,omitempty"`
}

// Over puts what f says over w.
func (f *Flags) Over(w Wishes, in io.Reader) (Wishes, error) {
	out := Wishes{Profiles: slices.Clone(w.Profiles), Values: loader.MergeMaps(map[string]any{}, w.Values)}
	more := f.Profiles
	if f.HA {
		more = append(slices.Clone(more), "ha")
	}
	known, err := charts.Profiles(charts.Tulle)
	if err != nil {
		return out, err
	}
	if len(more) > 0 {
		out.Profiles = more // a profile asked for takes the place of the one before
	}
	for _, p := range more {
		if !slices.Contains(known, p) {
			return out, exit.With(exit.Usage, fmt.Errorf("--profile: there is no %q", p), "--profile "+strings.Join(known, ", --profile "))
		}
	}
	for _, name := range f.Files {
		raw, err := read(name, in)
		if err != nil {
			return out, exit.With(exit.Usage, fmt.Errorf("--values: %w", err), "")
		}
		v, err := charts.ParseValues(raw)
		if err != nil {
			return out, exit.With(exit.Usage, fmt.Errorf("--values %s: %w", name, err), "a file of values is a YAML mapping")
		}
		out.Values = loader.MergeMaps(out.Values, v)
	}
	return out, f.set(out.Values)
}

func (f *Flags) set(values map[string]any) error {
	for _, kind := range []struct {
		flag string
		all  []string
		into func(string, map[string]any) error
	}{
		{"--set", f.Set, strvals.ParseInto},
		{"--set-string", f.SetString, strvals.ParseIntoString},
		{"--set-file", f.SetFile, func(s string, into map[string]any) error {
			return strvals.ParseIntoFile(s, into, func(name []rune) (any, error) {
				b, err := os.ReadFile(string(name))
				return string(b), err
			})
		}},
	} {
		for _, s := range kind.all {
			if err := kind.into(s, values); err != nil {
				return exit.With(exit.Usage, fmt.Errorf("%s %s: %w", kind.flag, s, err), "--set name.of.value=1")
			}
		}
	}
	return nil
}

func read(name string, in io.Reader) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(in)
	}
	return os.ReadFile(name)
}
