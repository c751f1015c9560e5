package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// api asks the API server for the few things that Up waits for; tests use kubectl.
type api struct {
	url    string
	client http.Client
}

func newAPI(i instance) (*api, error) {
	p := i.pki()
	cert, err := tls.LoadX509KeyPair(filepath.Join(p, "admin.crt"), filepath.Join(p, "admin.key"))
	if err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(filepath.Join(p, "ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return &api{url: i.server(), client: http.Client{
		Timeout: 5 * time.Second,
		Transport: &http.Transport{
			DisableKeepAlives: true, // no connection outlives a control plane that is killed
			TLSClientConfig:   &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13},
		},
	}}, nil
}

// conditions is the part of any object that says how it is.
type conditions struct {
	Status struct {
		Conditions []struct{ Type, Status string }
	}
}

// condition reports whether the object at path has a condition of this type that is True.
func (a *api) condition(path, kind string) func(context.Context) error {
	return func(ctx context.Context) error {
		var o conditions
		if err := a.get(ctx, path, &o); err != nil {
			return err
		}
		for _, c := range o.Status.Conditions {
			if c.Type == kind && c.Status == "True" {
				return nil
			}
		}
		return fmt.Errorf("%s is not %s", path, kind)
	}
}

func (a *api) get(ctx context.Context, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url+path, nil)
	if err != nil {
		return err
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

// Until calls try, with a pause in between, until it succeeds or ctx ends; the error is try's last.
func Until(ctx context.Context, try func(context.Context) error) error {
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; last: %w", context.Cause(ctx), err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
