// Command app is what the test bed's own tests run in pods: it serves, asks, and tells what a
// connection looked like before it was redirected. Static, so that any image can hold it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

const usage = `usage: app serve ADDR           answer HTTP requests with this host's name, upgrades to "echo" with what they say
       app get URL [NAME:VALUE] ask once, with this header; print the answer's status and body
       app first ADDR N [HEX]   N times: connect, say this, print the microseconds until the first byte
       app late ADDR DELAY      speak first, but late
       app count ADDR           answer HTTP requests with how many connections there were
       app original ADDR        tell each connection its original destination
       app webhook ADDR CRT KEY be a mutating webhook that annotates every pod
       app doors PORT           serve HTTP, HTTPS, gRPC health and TCP from this port on; the tenth closes and opens them
       app sleep                wait for the end`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 2 && args[0] == "serve":
		return serve(ctx, args[1])
	case len(args) >= 2 && args[0] == "get":
		return get(ctx, args[1], args[2:])
	case len(args) == 3 && args[0] == "first":
		return first(ctx, args[1], args[2], "")
	case len(args) == 4 && args[0] == "first":
		return first(ctx, args[1], args[2], args[3])
	case len(args) == 3 && args[0] == "late":
		return late(ctx, args[1], args[2])
	case len(args) == 2 && args[0] == "count":
		return count(ctx, args[1])
	case len(args) == 2 && args[0] == "original":
		return original(ctx, args[1])
	case len(args) == 4 && args[0] == "webhook":
		return webhook(ctx, args[1], args[2], args[3])
	case len(args) == 2 && args[0] == "doors":
		return openDoors(ctx, args[1])
	case len(args) == 1 && args[0] == "sleep":
		<-ctx.Done()
		return nil
	}
	return errors.New(usage)
}

func server(ctx context.Context, address string, h http.Handler) *http.Server {
	s := &http.Server{Addr: address, Handler: h, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = s.Close() })
	return s
}

func closed(err error) error {
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func serve(ctx context.Context, address string) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	answer := func(w http.ResponseWriter, r *http.Request) {
		log.Printf("%s %s from %s", r.Method, r.URL, r.RemoteAddr)
		if r.Header.Get("Upgrade") == "echo" {
			echo(w)
			return
		}
		w.Header().Set("Asked-Host", r.Host)
		w.Header().Set("Asked-By", r.Header.Get("Tulle-Client-Id"))
		fmt.Fprintf(w, "%s\n", host)
	}
	log.Printf("serving on %s", address)
	return closed(server(ctx, address, http.HandlerFunc(answer)).ListenAndServe())
}

func get(ctx context.Context, url string, headers []string) error {
	ctx, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ":")
		req.Header.Set(name, strings.TrimSpace(value))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	fmt.Println(resp.StatusCode)
	_, err = io.Copy(os.Stdout, resp.Body)
	return err
}
