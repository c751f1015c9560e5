package diagnostics

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tulle-mesh/tulle/cli/cluster"
	"github.com/tulle-mesh/tulle/cli/exit"
	"github.com/tulle-mesh/tulle/cli/mesh"
)

// target is one table of the destination service: what a proxy that dials one of Called is told.
type target struct {
	Name      string     `json:"name"`
	Policy    string     `json:"policy"`
	Called    []string   `json:"called"`
	Clients   []string   `json:"clients,omitempty"` // other policies for clients of some namespaces
	Endpoints []endpoint `json:"endpoints"`
}

type endpoint struct {
	Address  string            `json:"address"`
	Protocol string            `json:"protocol"`
	Identity string            `json:"identity,omitempty"`
	NoTLS    string            `json:"noTls,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	// Terminating: it is chosen only when nothing else is left.
	Terminating bool `json:"terminating,omitempty"`
}

// view is what the destination service would tell proxies.
type view struct {
	targets []target
	inbound map[string]string // by workload
}

// readState asks a replica of the destination service. All replicas agree but for moments.
func readState(ctx context.Context, k *cluster.Cluster) (*view, error) {
	raw, err := askControl(ctx, k, mesh.Destination, "/debug/state")
	if err != nil {
		return nil, err
	}
	return parseState(raw), nil
}

// askControl asks the first ready pod of a Deployment of the control plane.
func askControl(ctx context.Context, k *cluster.Cluster, deployment, path string) ([]byte, error) {
	pods, err := mesh.ControlPods(ctx, k, deployment)
	if err != nil {
		return nil, err
	}
	for i := range pods {
		if mesh.IsReady(&pods[i]) {
			return k.Get(ctx, cluster.Ask{Namespace: pods[i].Namespace, Pod: pods[i].Name, Port: mesh.ControllerAdmin, Path: path})
		}
	}
	return nil, exit.With(exit.Failed, fmt.Errorf("no pod of %s is ready in namespace %s", deployment, k.Tulle), "tulle check")
}

// parseState reads the text of /debug/state, which controller/state.Snapshot.Dump writes.
func parseState(raw []byte) *view {
	v := &view{inbound: map[string]string{}}
	for lines := bufio.NewScanner(bytes.NewReader(raw)); lines.Scan(); {
		line := lines.Text()
		below, isBelow := strings.CutPrefix(line, "\t")
		switch {
		case strings.HasPrefix(line, "table "):
			name, policy, _ := strings.Cut(strings.TrimPrefix(line, "table "), ": ")
			v.targets = append(v.targets, target{Name: name, Policy: policy, Endpoints: []endpoint{}})
		case strings.HasPrefix(line, "inbound "):
			name, policy, _ := strings.Cut(strings.TrimPrefix(line, "inbound "), ": ")
			v.inbound[name] = policy
		case isBelow && len(v.targets) > 0:
			v.targets[len(v.targets)-1].add(below)
		}
	}
	return v
}

func (t *target) add(line string) {
	if called, ok := strings.CutPrefix(line, "called "); ok {
		t.Called = strings.Split(called, ", ")
		return
	}
	if clients, ok := strings.CutPrefix(line, "for clients of "); ok {
		t.Clients = append(t.Clients, clients)
		return
	}
	address, rest, _ := strings.Cut(line, " ")
	protocol, rest, _ := strings.Cut(rest, " ")
	e := endpoint{Address: address, Protocol: protocol, Labels: map[string]string{}}
	if why, ok := strings.CutPrefix(rest, "plaintext: "); ok {
		e.NoTLS, rest, _ = strings.Cut(why, " ")
	} else {
		e.Identity, rest, _ = strings.Cut(rest, " ")
	}
	for word := range strings.FieldsSeq(rest) {
		if name, value, ok := strings.Cut(word, "="); ok {
			e.Labels[name] = value
		} else if word == "terminating" {
			e.Terminating = true
		}
	}
	t.Endpoints = append(t.Endpoints, e)
}

// find returns the table that an authority names: as it is called, or as the table itself is.
func (v *view) find(authority string) *target {
	for i := range v.targets {
		t := &v.targets[i]
		if t.Name == authority || slices.Contains(t.Called, authority) {
			return t
		}
	}
	return nil
}
