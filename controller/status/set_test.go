package status

import (
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/tulle-mesh/tulle/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

func TestReportsAreLoggedWhenTheyComeAndGoAndNotWhileTheyStay(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	s := NewSet(zap.New(core))
	r := Of(Object{"HTTPRoute", "shop", "x"}, Problem{Ignored, "spec.rules[0].filters", "is not supported yet"})
	r.File, r.Line = "shop.yaml", 12
	want := "shop.yaml:12: HTTPRoute shop/x: rules[0].filters is not supported yet"
	if r.String() != want {
		t.Fatalf("got %q, want %q", r, want)
	}
	for range 3 {
		s.Replace("a", []Report{r})
	}
	s.Replace("b", nil) // another source says nothing of it
	if n := logs.Len(); n != 1 {
		t.Errorf("%d lines while it stays", n)
	}
	if all := s.All(); len(all) != 1 || all[0] != r {
		t.Errorf("all: %v", all)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, nil)
	if !strings.Contains(w.Body.String(), `"file": "shop.yaml"`) {
		t.Errorf("JSON: %s", w.Body)
	}
	s.Replace("a", nil)
	if n := logs.Len(); n != 2 || len(s.All()) != 0 {
		t.Errorf("%d lines, %d reports after it went", n, len(s.All()))
	}
}
