package charts

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/loader/archive"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"sigs.k8s.io/yaml"

	"github.com/tulle-mesh/tulle/internal/version"
)

//go:embed all:tulle all:tulle-crds
var files embed.FS

// The charts.
const (
	Tulle = "tulle"      // the control plane
	CRDs  = "tulle-crds" // the custom resources that it reads, installed before
)

// FS is a chart's directory, as helm install would be given it.
func FS(name string) (fs.FS, error) {
	if name != Tulle && name != CRDs {
		return nil, fmt.Errorf("no chart %q: there are %s and %s", name, Tulle, CRDs)
	}
	return fs.Sub(files, name)
}

// Profiles are the names that Options.Profiles may have, sorted.
func Profiles(name string) ([]string, error) {
	dir, err := FS(name)
	if err != nil {
		return nil, err
	}
	names, err := fs.Glob(dir, "values-*.yaml")
	if err != nil {
		return nil, err
	}
	profiles := []string{DefaultProfile}
	for _, n := range names {
		profiles = append(profiles, strings.TrimSuffix(strings.TrimPrefix(n, "values-"), ".yaml"))
	}
	slices.Sort(profiles)
	return profiles, nil
}

// DefaultProfile is the chart's own values and nothing else.
const DefaultProfile = "default"

// profile reads the values that a profile sets.
func profile(name, of string) (map[string]any, error) {
	known, err := Profiles(name)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(known, of) {
		return nil, fmt.Errorf("no profile %q: there are %s", of, strings.Join(known, ", "))
	}
	if of == DefaultProfile {
		return map[string]any{}, nil
	}
	data, err := files.ReadFile(path.Join(name, "values-"+of+".yaml"))
	if err != nil {
		return nil, err
	}
	return ParseValues(data)
}

// ParseValues reads a file of values.
func ParseValues(data []byte) (map[string]any, error) {
	values := map[string]any{}
	if err := yaml.UnmarshalStrict(data, &values); err != nil {
		return nil, err
	}
	return values, nil
}

// load reads a chart as Helm sees it.
func load(name string) (*chart.Chart, error) {
	dir, err := FS(name)
	if err != nil {
		return nil, err
	}
	var all []*archive.BufferedFile
	err = fs.WalkDir(dir, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(dir, p)
		all = append(all, &archive.BufferedFile{Name: p, Data: data})
		return err
	})
	if err != nil {
		return nil, err
	}
	c, err := loader.LoadFiles(all)
	if err != nil {
		return nil, fmt.Errorf("chart %s: %w", name, err)
	}
	return c, nil
}

// Version is the charts' own, and that of the images which they install.
func Version() string { return version.Number() }
