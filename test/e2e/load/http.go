package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"time"
)

// httpClient keeps connections and asks once.
type httpClient struct {
	client http.Client
	url    string
}

func newHTTP(scheme, addr string) *httpClient {
	t := &http.Transport{MaxIdleConnsPerHost: 256, IdleConnTimeout: 30 * time.Second, DisableCompression: true}
	if scheme == "h2" {
		t.Protocols = new(http.Protocols)
		t.Protocols.SetUnencryptedHTTP2(true)
	}
	return &httpClient{client: http.Client{Transport: t}, url: "http://" + addr + "/work"}
}

func (h *httpClient) get(ctx context.Context, id, work string) error {
	return h.ask(ctx, http.MethodGet, id, work)
}

func (h *httpClient) post(ctx context.Context, id, work string) error {
	return h.ask(ctx, http.MethodPost, id, work)
}

func (h *httpClient) ask(ctx context.Context, method, id, work string) error {
	var body io.Reader
	if method == http.MethodPost {
		body = strings.NewReader(strings.Repeat(id+" ", 50))
	}
	// net/http asks a second time, unseen, where it holds that harmless. That HTTP/2 has asked may be told
	// only after the answer.
	var written atomic.Int32
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { written.Add(1) }})
	req, err := http.NewRequestWithContext(ctx, method, h.url, body)
	if err != nil {
		return err
	}
	req.Header.Set(idHeader, id)
	req.Header.Set(workHeader, work)
	resp, err := h.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("%s: %s", resp.Status, resp.Header.Get("Tulle-Proxy-Error"))
	case strings.TrimSpace(string(b)) != id:
		return fmt.Errorf("the answer is %.80q", b)
	case written.Load() > 1:
		return fmt.Errorf("asked %d times", written.Load())
	}
	return nil
}
