package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tulle-mesh/tulle/identity"
	"github.com/tulle-mesh/tulle/internal/leak"
	"github.com/tulle-mesh/tulle/internal/run"
)

func TestMain(m *testing.M) { leak.Main(m) }

func TestMistakesAreExplainedWithExitCode2(t *testing.T) {
	for args, want := range map[string]string{
		"injector --injector-listen 127.0.0.1:0 --sweep-interval 1ms": "want a second or more",
		"injector --injector-listen 127.0.0.1:0 --kubeconfig /none":   "API server: ",
		"":                                   "tulle-controller identity|destination|all",
		"viz":                                `"viz" is no sub-command`,
		"identity":                           "a state directory",
		"destination --source files:x":       "wants its address, a token file",
		"all --state-dir x --source mesh.d":  "want kubernetes or files:DIR",
		"all --log-level loud":               `unrecognized level: "loud"`,
		"all --log-format xml":               "want json or plain",
		"all --default-inbound-policy maybe": "maybe",
		"all --cluster-networks 10.0.0.0":    "10.0.0.0",
		"all --opaque-ports mysql":           "--opaque-ports mysql: want ports",
		"all now":                            `"now" is no flag`,
		"token --workload web-1":             "namespace/name",
	} {
		var out, errs bytes.Buffer
		full := strings.Fields(args)
		if len(full) > 0 && full[0] != "token" && full[0] != "viz" && !strings.Contains(args, "now") {
			full = append(full, "--admin-listen", "")
			switch full[0] {
			case "identity":
				full = append(full, "--identity-listen", "127.0.0.1:0")
			case "destination":
				full = append(full, "--destination-listen", "127.0.0.1:0")
			case "all":
				full = append(full, "--identity-listen", "127.0.0.1:0", "--destination-listen", "127.0.0.1:0")
			}
		}
		err := command(t.Context(), full, run.Streams{Out: &out, Err: &errs})
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

func TestAMintedTokenIsWhatIdentityAccepts(t *testing.T) {
	dir := t.TempDir()
	var out bytes.Buffer
	err := command(t.Context(), []string{"token", "--state-dir", dir, "--workload", "shop/web-1", "--account", "web"}, run.Streams{Out: &out})
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := identity.OpenJoinTokens(identity.JoinConfig{Dir: dir, TrustDomain: "cluster.local"})
	if err != nil {
		t.Fatal(err)
	}
	defer tokens.Close()
	grant, err := tokens.Validate(t.Context(), strings.TrimSpace(out.String()))
	if err != nil || grant.Identity != "spiffe://cluster.local/ns/shop/sa/web" || grant.Workload != "shop/web-1" {
		t.Errorf("grant %+v, error %v", grant, err)
	}
}

// TestAllServesUntilItIsStopped runs the command as main does, and looks at what it leaves behind.
func TestAllServesUntilItIsStopped(t *testing.T) {
	source, state := t.TempDir(), filepath.Join(t.TempDir(), "state")
	ctx, cancel := context.WithCancel(t.Context())
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ended := make(chan error, 1)
	go func() { // ends with ctx
		defer w.Close()
		ended <- command(ctx, []string{
			"all", "--source", "files:" + source, "--state-dir", state, "--log-format", "plain",
			"--identity-listen", "127.0.0.1:0", "--destination-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0",
		}, run.Streams{Out: w, Err: w})
	}()
	var log []byte
	for buf := make([]byte, 4096); !strings.Contains(string(log), "certified"); {
		n, err := r.Read(buf)
		if err != nil {
			t.Fatalf("%v: %s", <-ended, log)
		}
		log = append(log, buf[:n]...)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	info, err := os.Stat(filepath.Join(state, "authority.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the authority's file: %v, %v", info, err)
	}
}
