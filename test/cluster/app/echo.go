package main

import (
	"io"
	"log"
	"net/http"
)

// echo switches the connection to bytes, and gives back what comes.
func echo(w http.ResponseWriter) {
	h, ok := w.(http.Hijacker)
	if !ok {
		panic("BUG: HTTP/2 has no Upgrade")
	}
	c, buffered, err := h.Hijack()
	if err != nil {
		log.Print(err)
		return
	}
	defer c.Close()
	if _, err := io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"); err != nil {
		return
	}
	_, _ = io.Copy(c, buffered.Reader) // until either end closes
}
