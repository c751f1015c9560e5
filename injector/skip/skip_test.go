package skip_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tulle-mesh/tulle/injector/skip"
	"github.com/tulle-mesh/tulle/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

func TestListsAreReadStrictly(t *testing.T) { // R13.3
	for in, want := range map[string]string{
		"": "[]", " 25, 3306,,9000-9099 ": "[25 3306 9000-9099]", "1-65535": "[1-65535]",
		"0": "-", "65536": "-", "9-8": "-", "80-": "-", "-80": "-", "http": "-", "80;81": "-", "+80": "-",
	} {
		got, ok := skip.ParsePorts(in)
		if text := fmt.Sprint(got); ok == (want == "-") || ok && text != want {
			t.Errorf("ports %q: %v %v, want %s", in, got, ok, want)
		}
	}
	for in, want := range map[string]string{
		"": "[]", "10.1.2.3/8, fd00::1/8": "[10.0.0.0/8 fd00::/8]", "0.0.0.0/0": "[0.0.0.0/0]",
		"10.0.0.0": "-", "10.0.0.0/33": "-", "::ffff:10.0.0.0/104": "-", "x/8": "-",
	} {
		got, ok := skip.ParseSubnets(in)
		if text := fmt.Sprint(got); ok == (want == "-") || ok && text != want {
			t.Errorf("subnets %q: %v %v, want %s", in, got, ok, want)
		}
	}
}

func FuzzLists(f *testing.F) {
	f.Add("25,3306,9000-9099")
	f.Add("10.0.0.0/8,fd00::/8")
	f.Fuzz(func(t *testing.T, s string) {
		if all, ok := skip.ParsePorts(s); ok {
			again, ok := skip.ParsePorts(strings.ReplaceAll(strings.Trim(fmt.Sprint(all), "[]"), " ", ","))
			if !ok || fmt.Sprint(again) != fmt.Sprint(all) {
				t.Errorf("%q: %v, then %v", s, all, again)
			}
		}
		if all, ok := skip.ParseSubnets(s); ok {
			again, ok := skip.ParseSubnets(strings.ReplaceAll(strings.Trim(fmt.Sprint(all), "[]"), " ", ","))
			if !ok || fmt.Sprint(again) != fmt.Sprint(all) {
				t.Errorf("%q: %v, then %v", s, all, again)
			}
		}
	})
}
