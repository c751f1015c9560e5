package mark_test

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tulle-mesh/tulle/injector/mark"
	"github.com/tulle-mesh/tulle/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

func TestOwner(t *testing.T) {
	owned := func(kind, name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{
			Name: "p", Labels: map[string]string{"pod-template-hash": "abc"},
			OwnerReferences: []metav1.OwnerReference{{Kind: "Other", Name: "no"}, {Kind: kind, Name: name, Controller: new(true)}},
		}
	}
	for _, c := range []struct {
		m    metav1.ObjectMeta
		want string
	}{
		{owned("ReplicaSet", "web-abc"), "web"},
		{owned("StatefulSet", "db"), "db"},
		{owned("Job", "report-29123456"), "report"},
		{owned("Job", "migrate-2"), "migrate-2"},
		{metav1.ObjectMeta{Name: "alone"}, "alone"},
		{metav1.ObjectMeta{GenerateName: "many-"}, "many"},
	} {
		if got := mark.Owner(&c.m); got != c.want {
			t.Errorf("%+v: %q, want %q", c.m, got, c.want)
		}
	}
}
