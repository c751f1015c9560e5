package charts

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
)

// TestArgumentsAreFlagsOfTheController: a flag that is renamed there must be renamed here.
func TestArgumentsAreFlagsOfTheController(t *testing.T) {
	names, err := filepath.Glob("../cmd/tulle-controller/*.go")
	if err != nil || len(names) == 0 {
		t.Fatalf("no source of the controller: %v", err)
	}
	var source strings.Builder
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		source.Write(data)
	}
	for _, one := range objects(t, Options{Chart: Tulle}) {
		d, ok := decoded(t, one).(*appsv1.Deployment)
		if !ok {
			continue
		}
		args := d.Spec.Template.Spec.Containers[0].Args
		if service := strings.TrimPrefix(d.Name, "tulle-"); args[0] != service {
			t.Errorf("%s: sub-command %s", d.Name, args[0])
		}
		for _, arg := range args[1:] {
			flag, _, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
			if !strings.Contains(source.String(), `, "`+flag+`", `) {
				t.Errorf("%s: %s is no flag of tulle-controller", d.Name, arg)
			}
		}
	}
}
