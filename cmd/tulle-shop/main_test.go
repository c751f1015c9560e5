package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tulle-mesh/tulle/internal/leak"
	"github.com/tulle-mesh/tulle/internal/run"
	"github.com/tulle-mesh/tulle/internal/shop/traffic"
)

func TestMain(m *testing.M) { leak.Main(m) }

func TestMistakesAreExplainedWithExitCode2(t *testing.T) {
	t.Setenv("SHOP_FAIL", "often")
	for args, want := range map[string]string{
		"":                       "tulle-shop web|catalog",
		"shoes":                  `"shoes" is no role`,
		"web --fail 0":           "web needs --catalog",
		"cart --fail 0":          "cart needs --store",
		"traffic":                "needs the address of a service",
		"payments":               `SHOP_FAIL="often"`,
		"payments --fail 0 fast": `"fast" is no flag`,
		"payments --fast":        "",
	} {
		var out, errs bytes.Buffer
		err := command(t.Context(), strings.Fields(args), run.Streams{Out: &out, Err: &errs})
		exit, ok := errors.AsType[*run.ExitError](err)
		if !ok || exit.Code != 2 {
			t.Errorf("%q: error %v, want exit code 2", args, err)
			continue
		}
		if text := errs.String() + err.Error(); !strings.Contains(text, want) {
			t.Errorf("%q: says %q, want %q", args, text, want)
		}
	}
}

func TestSettingsOutOfRangeAreRefused(t *testing.T) {
	err := command(t.Context(), []string{"payments", "--fail", "7"}, run.Streams{Out: io.Discard, Err: io.Discard})
	if err == nil || !strings.Contains(err.Error(), "between 0 and 1") {
		t.Errorf("error %v", err)
	}
}

// TestAServiceAndItsTraffic runs two commands as two processes would be run: the first tells where
// it listens, and the flag beats the environment.
func TestAServiceAndItsTraffic(t *testing.T) {
	t.Setenv("SHOP_NAME", "payments-from-environment")
	t.Setenv("SHOP_FAIL", "1")
	ctx, cancel := context.WithCancel(t.Context())
	told, tell := io.Pipe()
	log := filepath.Join(t.TempDir(), "log")
	ended := make(chan error, 1)
	go func() { // ends with cancel
		ended <- command(ctx, []string{"payments", "--fail", "0", "--log", log, "--control", "127.0.0.1:0"}, run.Streams{Out: tell, Err: io.Discard})
	}()
	line, err := bufio.NewReader(told).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var at struct{ Instance, Listen, Control string }
	if err := json.Unmarshal([]byte(line), &at); err != nil || at.Instance != "payments-from-environment" || at.Control == "" {
		t.Fatalf("it told %q (%v)", line, err)
	}
	var out bytes.Buffer
	args := []string{"traffic", "--payments", at.Listen, "--payments-rate", "100", "--duration", "200ms", "--control", "127.0.0.1:0"}
	if err := command(t.Context(), args, run.Streams{Out: &out, Err: io.Discard}); err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(out.String(), "\n")
	var sum traffic.Summary
	if err := json.Unmarshal([]byte(lines[1]), &sum); err != nil {
		t.Fatalf("summary in %q: %v", out.String(), err)
	}
	if s := sum.Services[0]; s.Requests < 10 || s.OK != s.Requests || s.Instances["payments-from-environment"] != s.Requests {
		t.Errorf("summary %+v", s)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
