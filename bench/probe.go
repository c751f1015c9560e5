//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// probe sends one request by another maker's client and compares what comes back: the generator
// itself looks at little.
func probe(ctx context.Context, addr string, to target) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	switch to.proto {
	case protoHTTP1:
		t := &http.Transport{DisableCompression: true}
		defer t.CloseIdleConnections()
		return probeHTTP(ctx, t, addr, to.body)
	case protoGRPC:
		protocols := new(http.Protocols)
		protocols.SetUnencryptedHTTP2(true)
		t := &http.Transport{DisableCompression: true, Protocols: protocols}
		defer t.CloseIdleConnections()
		return probeCall(ctx, t, addr, to.body)
	case protoTCP:
		return probeTCP(ctx, addr)
	}
	panic("BUG: a protocol without a probe: " + to.proto)
}

func probeHTTP(ctx context.Context, t http.RoundTripper, addr string, body int) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/api/v1/items/42", nil)
	if err != nil {
		return err
	}
	a, err := t.RoundTrip(r)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	got, err := io.ReadAll(a.Body)
	if err == nil && (a.StatusCode != http.StatusOK || a.Header.Get("X-Served-By") != "web-7d9f" || !bytes.Equal(got, payload(body))) {
		err = fmt.Errorf("answered %s, %v, with %d bytes", a.Status, a.Header, len(got))
	}
	return err
}

func probeCall(ctx context.Context, t http.RoundTripper, addr string, body int) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/pkg.Service/Method", bytes.NewReader(make([]byte, 5)))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/grpc")
	r.Header.Set("Te", "trailers")
	a, err := t.RoundTrip(r)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	got, err := io.ReadAll(a.Body)
	want := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(body)), payload(body)...)
	if err == nil && (a.StatusCode != http.StatusOK || !bytes.Equal(got, want) || a.Trailer.Get("Grpc-Status") != "0") {
		err = fmt.Errorf("answered %s, trailers %v, with %d bytes", a.Status, a.Trailer, len(got))
	}
	return err
}

func probeTCP(ctx context.Context, addr string) error {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if at, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(at); err != nil {
			return err
		}
	}
	if _, err := c.Write(tcpRequest); err != nil {
		return err
	}
	got := make([]byte, tcpMessage)
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if !bytes.Equal(got, tcpRequest) {
		return errors.New("another echo than what was sent")
	}
	return nil
}
