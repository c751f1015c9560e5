package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Doors are at a port and those after it; the handle is the tenth.
const (
	doorHTTP = iota
	doorHTTPS
	doorGRPC
	doorTCP
	doorExec // no port: the handle's /up answers, or does not
	doorCount
)

const handlePort = 9

var doorNames = [doorCount]string{"http", "https", "grpc", "tcp", "exec"}

// doors are an application of which parts can be stopped from outside: GET /close/NAME and /open/NAME at
// its handle.
type doors struct {
	port int

	mu   sync.Mutex // guards the rest
	shut [doorCount]func()
}

// openDoors serves at port (HTTP), and at the four after it HTTPS, gRPC's health service and bytes.
func openDoors(ctx context.Context, port string) error {
	first, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	d := &doors{port: first}
	for i := range doorCount {
		if err := d.open(i); err != nil {
			return err
		}
	}
	log.Printf("doors at %d", first)
	return closed(server(ctx, fmt.Sprintf(":%d", first+handlePort), http.HandlerFunc(d.handle)).ListenAndServe())
}

// handle opens and closes, and is what an exec probe asks.
func (d *doors) handle(w http.ResponseWriter, r *http.Request) {
	verb, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	for i, n := range doorNames {
		switch {
		case verb == "up" && i == doorExec && !d.isOpen(i):
			panic(http.ErrAbortHandler) // app get fails
		case n != name:
		case verb == "close":
			d.close(i)
		case verb == "open":
			if err := d.open(i); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		}
	}
}

func (d *doors) isOpen(i int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.shut[i] != nil
}

func (d *doors) close(i int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shut[i] != nil {
		d.shut[i]()
		d.shut[i] = nil
	}
}

func (d *doors) open(i int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shut[i] != nil {
		return nil
	}
	if i == doorExec {
		d.shut[i] = func() {}
		return nil
	}
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", d.port+i))
	if err != nil {
		return err
	}
	if i == doorTCP {
		d.shut[i] = func() { _ = l.Close() }
		go acceptAndClose(l)
		return nil
	}
	s, err := serverOf(i)
	if err != nil {
		return err
	}
	d.shut[i] = func() { _ = s.Close() }
	go func() {
		if i == doorHTTPS {
			log.Print(s.ServeTLS(l, "", ""))
			return
		}
		log.Print(s.Serve(l))
	}()
	return nil
}

// acceptAndClose is an application of which no more is wanted than that it accepts.
func acceptAndClose(l net.Listener) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			_ = c.Close()
		}
	}
}

func serverOf(door int) (*http.Server, error) {
	s := &http.Server{Handler: http.HandlerFunc(well), ReadHeaderTimeout: 10 * time.Second}
	switch door {
	case doorHTTPS:
		cert, err := selfSigned()
		s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
		return s, err
	case doorGRPC:
		s.Handler = http.HandlerFunc(healthy)
		s.Protocols = new(http.Protocols)
		s.Protocols.SetUnencryptedHTTP2(true)
	}
	return s, nil
}

// well is what HTTP probes and hooks ask: a probe's header has to come along.
func well(w http.ResponseWriter, r *http.Request) {
	log.Printf("%s %s from %s", r.Method, r.URL, r.UserAgent())
	if r.URL.Path == "/well" && r.Header.Get("X-Probe") != "yes" {
		http.Error(w, "the probe's header is missing", http.StatusBadRequest)
		return
	}
}

// healthy answers grpc.health.v1.Health/Check with SERVING: field 1, varint 1.
func healthy(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/grpc.health.v1.Health/Check" {
		http.NotFound(w, r)
		return
	}
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Trailer", "Grpc-Status")
	_, _ = w.Write([]byte{0, 0, 0, 0, 2, 1 << 3, 1})
	w.Header().Set("Grpc-Status", "0")
}

func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	t := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), DNSNames: []string{"app"}}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
