package mesh

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// disabled is a rule switched off: text must stand exactly once in file and becomes instead; the test
// that cites the rule must fail then.
type disabled struct {
	rule, file, text, instead string
	pkg, test                 string
}

func disabledRules() []disabled {
	const here = "./test/mesh"
	return []disabled{
		{"R1.4", "proxy/endpoint.go", "if app, ok := t.s.ownApp(e.Addr); ok {", "if app, ok := t.s.ownApp(e.Addr); ok && false {", "./proxy", "TestOneselfIsDialledInPlaintext"},
		{"R1.5", "proxy/h1/doc.go", "l.HeaderCount = 256", "l.HeaderCount = 100", here, "TestMeshInOneProcess/heads/requests"},
		{"R2.2", "proxy/detect/detect.go", "return More\n\t}\n\treturn requestLine(b)", "return Opaque\n\t}\n\treturn requestLine(b)", "./proxy/detect", "TestClientInPlaintext"},
		{"R2.5", "proxy/sniff.go", "n.arm(timerSilence, n.silence())", "n.arm(timerSilence, 1000000*n.silence())", here, "TestMeshInOneProcess/ends/tcp_silent"},
		{"R3.1", "proxy/exchange/response.go", "x.down.Trailers(h.Fields)", "x.down.Trailers(nil)", here, "TestMeshInOneProcess/framing/chunked_and_trailers"},
		{"R3.2", "proxy/h1/hopfields.go", "c.names++", "c.names += 0", here, "TestMeshInOneProcess/heads/removed"},
		{"R3.3", "proxy/exchange/response.go", "x.upgrading && h.Status == 101", "x.upgrading && h.Status == 102", here, "TestMeshInOneProcess/framing/upgrade"},
		{"R3.4", "proxy/h1/hopfields.go", "if c.lengths++; c.lengths > 1 {", "if c.lengths++; c.lengths > 9 {", here, "TestMeshInOneProcess/framing/smuggling"},
		{"R3.6", "proxy/exchange/h1_server.go", "s.close(s.tunnel || s.framing == head.FramingClose || !s.respHead)", "s.close(false)", here, "TestMeshInOneProcess/ends/http1_response_cut"},
		{"R4.1", "proxy/h2/config.go", "defaultStreams     = 250", "defaultStreams     = 100", here, "TestMeshInOneProcess/http2/no_extended_CONNECT"},
		{"R4.3", "proxy/exchange/h2_client.go", "Code:        ev.Code,", "Code:        h2.ErrCodeCancel,", here, "TestMeshInOneProcess/http2/resets"},
		{"R4.5", "proxy/h2/flood.go", "return m.level <= int64(b.Burst)*milli", "return true", "./proxy/h2", "TestFloodsEndTheConnection"},
		{"R5.1", "proxy/endpoint.go", "return u.noTLS == mesh.NoTLSNone }", "return false }", here, "TestTheNetworkSeesNothing/process"},
		{"R5.2", "proxy/mtls/verify.go", "if !e.Any && got != e.Want {", "if false {", here, "TestRogueServersAreRefused/process"},
		{"R5.4", "proxy/tunnel/tunnel.go", "e.other.c.Abort()\n\te.t.done(err)", "e.other.c.Close()\n\te.t.done(err)", here, "TestMeshInOneProcess/ends/tcp_reset_by_client"},
		{"R5.5", "proxy/hop/hop.go", "if !Reserved(f[i].Name) {", "if len(f) > 0 {", here, "TestMeshInOneProcess/heads/removed"},
		{"R6.4", "proxy/balance/eject.go", "return max(1, (n*b.cfg.FloorPercent+99)/100)", "return 0", "./proxy/balance", "TestDecisions"},
		{"R7.1", "proxy/receive.go", "Unprocessed: true})", "Unprocessed: false})", "./proxy", "TestAProxyWithoutAPolicyIsPassedBy"},
		{"R7.3", "proxy/budget/budget.go", "c.Start = 10\n", "c.Start = 1000\n", "./proxy/budget", "TestABudgetStartsWithTen"},
		{"R8.4", "proxy/target.go", "f.Status = 404", "f.Status = 503", "./proxy", "TestANameThatNobodyHas"},
		{"R10.1", "proxy/identity/renew.go", "renewFirst, renewSpread = 0.65, 0.10", "renewFirst, renewSpread = 0.95, 0.01", "./proxy/identity", "TestRenewalIsAtSeventyPercentAndSpread"},
	}
}

// TestADisabledRuleFailsItsTest plants each of them by overlay; the work tree stays as it is.
func TestADisabledRuleFailsItsTest(t *testing.T) {
	if testing.Short() {
		t.Skip("long: builds and runs a package for each of twenty-one rules")
	}
	root, err := filepath.Abs("../..")
	ok(t, err)
	for _, d := range disabledRules() {
		t.Run(d.rule, func(t *testing.T) { d.mustFail(t, root) })
	}
}

// TestDisabledRulesStillApply fails when an overlay no longer fits the code, in every make test.
func TestDisabledRulesStillApply(t *testing.T) {
	for _, d := range disabledRules() {
		d.replaced(t, "../..")
		if !cited(t, filepath.Join("../..", d.pkg), d.rule) {
			t.Errorf("no test of %s cites %s", d.pkg, d.rule)
		}
	}
}

// replaced is the file without the rule.
func (d disabled) replaced(t *testing.T, root string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, d.file))
	ok(t, err)
	if n := strings.Count(string(b), d.text); n != 1 {
		t.Errorf("%s: %q stands %d times in %s, want once", d.rule, d.text, n, d.file)
	}
	return strings.Replace(string(b), d.text, d.instead, 1)
}

func cited(t *testing.T, dir, rule string) bool {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	ok(t, err)
	for _, n := range names {
		b, err := os.ReadFile(n)
		ok(t, err)
		if filepath.Base(n) != "overlay_test.go" && strings.Contains(string(b), rule) {
			return true
		}
	}
	return false
}

func (d disabled) mustFail(t *testing.T, root string) {
	dir := t.TempDir()
	planted := filepath.Join(dir, filepath.Base(d.file))
	ok(t, os.WriteFile(planted, []byte(d.replaced(t, root)), 0o600))
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(root, d.file): planted}})
	ok(t, err)
	list := filepath.Join(dir, "overlay.json")
	ok(t, os.WriteFile(list, overlay, 0o600))
	var run []string
	for part := range strings.SplitSeq(d.test, "/") {
		run = append(run, "^"+part)
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-short", "-count=1", "-overlay", list, "-run", strings.Join(run, "/"), d.pkg)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	name, _, _ := strings.Cut(d.test, "/")
	if err == nil || !strings.Contains(string(out), "--- FAIL: "+name) {
		t.Errorf("%s without %s: want a failure of the test, got %v\n%s", d.test, d.rule, err, tail(string(out), 3000))
	}
}
