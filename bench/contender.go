//go:build linux

package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"
)

// contender is a way from the load to the origin.
type contender struct {
	name string
	// start brings it up for one origin.
	start func(ctx context.Context, to target) (*standing, error)
}

// target is an origin, and what is spoken with it.
type target struct {
	addr  string
	proto proto
	body  int
}

// standing is a contender that runs.
type standing struct {
	addr      string // for the load
	processes []*process
	admin     []string // addresses of doors with pprof
}

func (s *standing) pids() (pids []int) {
	for _, p := range s.processes {
		pids = append(pids, p.pid())
	}
	return pids
}

func (s *standing) stop() {
	for _, p := range s.processes {
		p.stop()
	}
}

// alive reports a process that has ended.
func (s *standing) alive() error {
	for _, p := range s.processes {
		if err := p.ended(); err != nil {
			return err
		}
	}
	return nil
}

// run adds a process.
func (s *standing) run(ctx context.Context, core, name string, env []string, argv ...string) error {
	p, err := launch(ctx, core, name, env, argv...)
	if err == nil {
		s.processes = append(s.processes, p)
	}
	return err
}

// ready waits until an answer comes back as it should.
func (s *standing) ready(ctx context.Context, to target) (*standing, error) {
	err := until(ctx, 15*time.Second, func() error {
		if err := s.alive(); err != nil {
			return err
		}
		return probe(ctx, s.addr, to)
	})
	if err != nil {
		for _, p := range s.processes {
			fmt.Fprintf(os.Stderr, "%s said: %s\n", p.name, p.errors.String())
		}
		s.stop()
		return nil, err
	}
	return s, nil
}

func direct() contender {
	return contender{name: "direct", start: func(ctx context.Context, to target) (*standing, error) {
		return (&standing{addr: to.addr}).ready(ctx, to)
	}}
}

// tulle is two processes of a tulle-proxy.
func tulle(b build, c *control, core string) contender {
	serial := 0
	return contender{name: b.name, start: func(ctx context.Context, to target) (*standing, error) {
		serial++
		name := fmt.Sprintf("%s-%d", b.name, serial)
		a, err := freeAddrs(4)
		if err != nil {
			return nil, err
		}
		out, in := a[0], netip.MustParseAddrPort(a[1])
		port := uint16(80)
		if to.proto == protoTCP {
			port = opaquePort
		}
		c.service(name, port, in)
		s := &standing{addr: out, admin: a[2:]}
		for i, w := range []struct{ workload, setting string }{
			{"client-" + name, fmt.Sprintf("TULLE_UPSTREAMS=%s=%s.%s:%d", out, name, namespace, port)},
			{name + "-0", fmt.Sprintf("TULLE_INBOUND_PORTS=%s=%s", in, to.addr)},
		} {
			id := clientName
			if i == 1 {
				id = serverName
			}
			token, err := c.token(id, w.workload)
			if err != nil {
				return nil, err
			}
			env := []string{
				"TULLE_IDENTITY=" + string(id), "TULLE_WORKLOAD=" + namespace + "/" + w.workload, "TULLE_TOKEN_FILE=" + token,
				"TULLE_TRUST_BUNDLE_DIR=" + c.bundleDir(), "TULLE_IDENTITY_ADDR=" + c.identityAddr, "TULLE_IDENTITY_NAME=" + string(identityName),
				"TULLE_DESTINATION_ADDR=" + c.destinationAddr, "TULLE_DESTINATION_NAME=" + string(destinationName),
				"TULLE_ADMIN_LISTEN=" + s.admin[i], "TULLE_LOG_LEVEL=warn", w.setting,
			}
			if err := s.run(ctx, core, w.workload, env, b.path); err != nil {
				s.stop()
				return nil, err
			}
		}
		return s.ready(ctx, to)
	}}
}

// haproxySettings are one file for both processes but for the parts that each has.
const haproxySettings = `global
  nbthread 1
  maxconn 8192
  ssl-default-bind-options ssl-min-ver TLSv1.3
  ssl-default-server-options ssl-min-ver TLSv1.3
defaults
  mode {{.Mode}}
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
listen out
{{- if .Out}}
  bind {{.Addr}}{{if eq .Proto "grpc"}} proto h2{{end}}
  server peer {{.Peer}} ssl crt {{.Cert}} ca-file {{.Roots}} verify required{{if ne .Proto "tcp"}} alpn h2{{end}}
{{- else}}
  bind {{.Addr}} ssl crt {{.Cert}} ca-file {{.Roots}} verify required{{if ne .Proto "tcp"}} alpn h2{{end}}
  server app {{.Peer}}{{if eq .Proto "grpc"}} proto h2{{end}}
{{- end}}
`

type haproxySide struct {
	Mode, Addr, Peer, Cert, Roots string
	Proto                         proto
	Out                           bool
}

func haproxy(path string, c *control, core string) contender {
	return contender{name: "haproxy", start: func(ctx context.Context, to target) (*standing, error) {
		a, err := freeAddrs(2)
		if err != nil {
			return nil, err
		}
		mode := "http"
		if to.proto == protoTCP {
			mode = "tcp"
		}
		s := &standing{addr: a[0]}
		for _, side := range []haproxySide{
			{Mode: mode, Addr: a[1], Peer: to.addr, Proto: to.proto, Cert: string(serverName)},
			{Mode: mode, Addr: a[0], Peer: a[1], Proto: to.proto, Cert: string(clientName), Out: true},
		} {
			file, err := haproxyFile(c, side)
			if err != nil {
				return nil, err
			}
			if err := s.run(ctx, core, filepath.Base(file), nil, path, "-db", "-f", file); err != nil {
				s.stop()
				return nil, err
			}
		}
		return s.ready(ctx, to)
	}}
}

var haproxyTemplate = template.Must(template.New("haproxy").Parse(haproxySettings))

func haproxyFile(c *control, side haproxySide) (string, error) {
	id := clientName
	if !side.Out {
		id = serverName
	}
	var err error
	if side.Cert, err = c.writeLeaf(id); err != nil {
		return "", err
	}
	side.Roots = c.bundleFile()
	var text strings.Builder
	if err := haproxyTemplate.Execute(&text, side); err != nil {
		return "", err
	}
	path := filepath.Join(c.dir, "haproxy-"+strings.ReplaceAll(side.Addr, ":", "-")+".cfg")
	return path, os.WriteFile(path, []byte(text.String()), 0o600)
}
