package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/proxy.md's table")

const (
	docFile = "../../docs/proxy.md"
	begin   = "<!-- settings: written by go test ./cmd/tulle-proxy -update -->\n"
	end     = "<!-- end of settings -->\n"
)

// TestSettingsAreDocumented holds docs/proxy.md to the table in the code.
func TestSettingsAreDocumented(t *testing.T) {
	b, err := os.ReadFile(docFile)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(b), begin)
	got, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no %q … %q", docFile, begin, end)
	}
	want := markdown()
	if *update {
		if err := os.WriteFile(docFile, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != want {
		t.Errorf("%s does not say what the code does; run: go test ./cmd/tulle-proxy -update", docFile)
	}
}

func markdown() string {
	var s strings.Builder
	s.WriteString("| variable | default | what it is |\n| --- | --- | --- |\n")
	for _, v := range table() {
		initial := ""
		if v.initial != "" {
			initial = "`" + v.initial + "`"
		}
		fmt.Fprintf(&s, "| `%s` | %s | %s |\n", v.name, initial, v.doc)
	}
	return s.String()
}

// complete is an environment that is accepted.
func complete() map[string]string {
	return map[string]string{
		"TULLE_IDENTITY": "spiffe://cluster.local/ns/shop/sa/web", "TULLE_WORKLOAD": "shop/web-1",
		"TULLE_TOKEN_FILE": "/t", "TULLE_TRUST_BUNDLE_DIR": "/b",
		"TULLE_IDENTITY_ADDR": "127.0.0.1:8080", "TULLE_IDENTITY_NAME": "spiffe://cluster.local/ns/tulle/sa/identity",
		"TULLE_DESTINATION_ADDR": "127.0.0.1:8086", "TULLE_DESTINATION_NAME": "spiffe://cluster.local/ns/tulle/sa/destination",
	}
}

func TestSettingsAreRead(t *testing.T) {
	env := complete()
	env["TULLE_UPSTREAMS"] = "127.0.0.1:9001=catalog.shop:80, 127.0.0.1:9002=10.0.0.1:443"
	env["TULLE_INBOUND_PORTS"] = "127.0.0.1:15001=127.0.0.1:8080"
	env["TULLE_MTLS"] = "off"
	s, err := read(func(k string) string { return env[k] })
	if err != nil {
		t.Fatal(err)
	}
	if len(s.proxy.Upstreams) != 2 || s.proxy.Upstreams[0].Target.String() != "catalog.shop:80" ||
		s.proxy.Upstreams[1].Target.String() != "10.0.0.1:443" {
		t.Errorf("upstreams %+v", s.proxy.Upstreams)
	}
	if len(s.proxy.InboundPorts) != 1 || s.proxy.InboundPorts[0].App.Port() != 8080 {
		t.Errorf("inbound ports %+v", s.proxy.InboundPorts)
	}
	if !s.proxy.DisableTLS || s.proxy.DisableRetries || s.proxy.Workers != 1 || s.admin.Port() != 4191 {
		t.Errorf("%+v", s)
	}
}

// TestBadSettingsNameTheVariable holds every mistake to one message that names
// the variable and what it should be; all mistakes are told at once.
func TestBadSettingsNameTheVariable(t *testing.T) {
	for name, value := range map[string]string{
		"TULLE_IDENTITY": "web", "TULLE_WORKLOAD": "web", "TULLE_UPSTREAMS": "9001", "TULLE_INBOUND_PORTS": "1=2",
		"TULLE_WORKERS": "0", "TULLE_MTLS": "maybe", "TULLE_BALANCING": "best", "TULLE_CONNECT_TIMEOUT": "1",
		"TULLE_CLUSTER_NETWORKS": "10.0.0.0", "TULLE_BUFFER_BYTES": "1", "TULLE_POD_IPS": "pod", "TULLE_PROBES": "[]", "TULLE_SHUTDOWN": "yes", "TULLE_ADMIN_LISTEN": ":4191",
	} {
		env := complete()
		env[name] = value
		env["TULLE_RETRIES"] = "no"
		_, err := read(func(k string) string { return env[k] })
		if err == nil || !strings.Contains(err.Error(), name+"=") || !strings.Contains(err.Error(), "TULLE_RETRIES=") {
			t.Errorf("%s=%s: %v", name, value, err)
		}
	}
	_, err := read(func(string) string { return "" })
	if err == nil || !strings.Contains(err.Error(), "TULLE_TOKEN_FILE is not set") {
		t.Error(err)
	}
}
