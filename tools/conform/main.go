// Command conform holds manifests against the schemas of Kubernetes versions, strictly: a field that a version does not
// know is an error. kubeconform judges; its schemas are made from the API description that each version's source carries, so that
// nothing but the module proxy is asked. Definitions of custom resources among the files add their kinds.
//
//	go -C tools run ./conform -kubernetes v1.25.16,v1.34.4 ../charts/testdata/default.yaml
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/yannh/kubeconform/pkg/validator"
)

func main() {
	err := run(context.Background(), os.Args[1:], os.Stdout)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "conform:", err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("conform", flag.ContinueOnError)
	versions := flags.String("kubernetes", "", "versions of Kubernetes, with commas between: v1.34.4")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *versions == "" || flags.NArg() == 0 {
		return errors.New("usage: conform -kubernetes VERSION,… FILE…")
	}
	var wrong error
	for version := range strings.SplitSeq(*versions, ",") {
		source, err := download(ctx, version)
		if err != nil {
			return err
		}
		n, err := against(source, flags.Args())
		if err != nil {
			wrong = errors.Join(wrong, fmt.Errorf("%s: %w", version, err))
			continue
		}
		fmt.Fprintf(out, "conform: %d objects are as Kubernetes %s wants them\n", n, version)
	}
	return wrong
}

// download is the directory of one version's source.
func download(ctx context.Context, version string) (string, error) {
	module := "k8s.io/kubernetes@" + version
	out, err := exec.CommandContext(ctx, "go", "mod", "download", "-json", module).Output()
	var said struct {
		Dir   string `json:"Dir"`
		Error string `json:"Error"`
	}
	if jsonErr := json.Unmarshal(out, &said); jsonErr != nil {
		return "", fmt.Errorf("go mod download %s: %w", module, errors.Join(err, jsonErr))
	}
	if said.Error != "" {
		return "", fmt.Errorf("go mod download %s: %s", module, said.Error)
	}
	return said.Dir, nil
}

// against returns how many objects of the files are valid by a version's API description, and what is wrong with the others.
func against(source string, files []string) (valid int, _ error) {
	description, err := os.ReadFile(filepath.Join(source, "api", "openapi-spec", "swagger.json"))
	if err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "conform-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if err := schemas(description, dir); err != nil {
		return 0, err
	}
	if err := customSchemas(files, dir); err != nil {
		return 0, err
	}
	judge, err := validator.New([]string{filepath.Join(dir, "{{ .ResourceKind }}{{ .KindSuffix }}.json")},
		validator.Opts{Strict: true})
	if err != nil {
		return 0, err
	}
	var wrong []error
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			return 0, err
		}
		for _, r := range judge.Validate(file, f) {
			switch r.Status {
			case validator.Valid:
				valid++
			case validator.Empty:
			default:
				wrong = append(wrong, complaint(file, r))
			}
		}
	}
	if valid == 0 && len(wrong) == 0 {
		return 0, errors.New("the files hold no object that can be judged")
	}
	return valid, errors.Join(wrong...)
}

// complaint names the object and what is wrong with it.
func complaint(file string, r validator.Result) error {
	name := "an object"
	if sig, err := r.Resource.Signature(); err == nil {
		name = sig.Kind + " " + sig.Name
	}
	return fmt.Errorf("%s: %s: %w", file, name, r.Err)
}
