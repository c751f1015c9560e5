// Package probe performs the probes of an application in the kubelet's place (rule R9.3): the injector
// points them at the proxy's own door, /probe/<container>/<kind>, which policies do not apply to, and the
// proxy asks the application the way that the kubelet would have.
package probe

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Kinds of probes, the last part of a path.
const (
	Liveness  = "liveness"
	Readiness = "readiness"
	Startup   = "startup"
)

// Set holds probes by "<container>/<kind>".
type Set map[string]Spec

// Spec is one probe. Exactly one of HTTP, TCP and GRPC is set.
type Spec struct {
	HTTP *HTTP `json:"http,omitempty"`
	TCP  *TCP  `json:"tcp,omitempty"`
	GRPC *GRPC `json:"grpc,omitempty"`
	// Seconds is the probe's timeout; 0 is the kubelet's default, 1 s.
	Seconds int `json:"seconds,omitempty"`
}

// HTTP is passed by a status from 200 to 399.
type HTTP struct {
	// Host is dialled; "" is the pod's address.
	Host string `json:"host,omitempty"`
	Port uint16 `json:"port"`
	// TLS: certificates are not verified, as the kubelet does not.
	TLS     bool     `json:"tls,omitempty"`
	Path    string   `json:"path,omitempty"`
	Headers []Header `json:"headers,omitempty"`
}

// Header is one field of an HTTP probe.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value,omitempty"`
}

// TCP is passed by a connection.
type TCP struct {
	Host string `json:"host,omitempty"`
	Port uint16 `json:"port"`
}

// GRPC is passed by SERVING from grpc.health.v1.
type GRPC struct {
	Port    uint16 `json:"port"`
	Service string `json:"service,omitempty"`
}

// Path is where the proxy performs a probe.
func Path(container, kind string) string { return "/probe/" + container + "/" + kind }

// timeout of a probe.
func (s *Spec) timeout() time.Duration { return time.Duration(max(s.Seconds, 1)) * time.Second }

// Parse reads what String wrote.
func Parse(s string) (Set, error) {
	var set Set
	d := json.NewDecoder(strings.NewReader(s))
	d.DisallowUnknownFields()
	if err := d.Decode(&set); err != nil {
		return nil, fmt.Errorf("probes: %w", err)
	}
	if d.More() {
		return nil, errors.New("probes: more than one value")
	}
	for name, spec := range set {
		if err := spec.check(); err != nil {
			return nil, fmt.Errorf("probe %q: %w", name, err)
		}
		if container, kind, ok := strings.Cut(name, "/"); !ok || container == "" || kind == "" {
			return nil, fmt.Errorf("probe %q: want container/kind", name)
		}
	}
	return set, nil
}

// String is the set in JSON.
func (s Set) String() string {
	b, err := json.Marshal(s)
	if err != nil {
		panic("BUG: probes cannot be written: " + err.Error())
	}
	return string(b)
}

func (s *Spec) check() error {
	var port uint16
	n := 0
	if s.HTTP != nil {
		n, port = n+1, s.HTTP.Port
		for _, h := range s.HTTP.Headers {
			if h.Name == "" || strings.ContainsAny(h.Name+h.Value, "\r\n\x00") {
				return fmt.Errorf("%q is no header", h.Name)
			}
		}
	}
	if s.TCP != nil {
		n, port = n+1, s.TCP.Port
	}
	if s.GRPC != nil {
		n, port = n+1, s.GRPC.Port
	}
	switch {
	case n != 1:
		return errors.New("want one of http, tcp, grpc")
	case port == 0:
		return errors.New("its port is missing")
	case s.Seconds < 0:
		return errors.New("its timeout is negative")
	}
	return nil
}
