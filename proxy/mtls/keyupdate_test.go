package mtls

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

// writer is one direction of a TLS 1.3 connection, written by hand: crypto/tls
// answers key updates but never sends one.
type writer struct {
	t      *testing.T
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

// expand is HKDF-Expand-Label (RFC 8446, 7.1) with an empty context.
func expand(t *testing.T, secret []byte, label string, n int) []byte {
	t.Helper()
	info := binary.BigEndian.AppendUint16(nil, uint16(n))
	info = append(info, byte(len("tls13 ")+len(label)))
	info = append(info, "tls13 "+label...)
	info = append(info, 0)
	out, err := hkdf.Expand(sha256.New, secret, string(info), n)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func newWriter(t *testing.T, secret []byte) *writer {
	block, err := aes.NewCipher(expand(t, secret, "key", 16))
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return &writer{t: t, secret: secret, aead: aead, iv: expand(t, secret, "iv", 12)}
}

// record encrypts one record of content type typ.
func (w *writer) record(typ byte, data []byte) []byte {
	nonce := bytes.Clone(w.iv)
	for i := range 8 {
		nonce[4+i] ^= byte(w.seq >> (56 - 8*i))
	}
	w.seq++
	plain := append(bytes.Clone(data), typ)
	header := binary.BigEndian.AppendUint16([]byte{23, 3, 3}, uint16(len(plain)+16))
	return w.aead.Seal(header, nonce, plain, header)
}

// next is the writer after a key update (RFC 8446, 7.2).
func (w *writer) next() *writer { return newWriter(w.t, expand(w.t, w.secret, "traffic upd", 32)) }

// takeOver shakes hands with a crypto/tls client and returns the server's
// session, the client's connection to read from, and its writing direction.
func takeOver(t *testing.T) (*Session, *tls.Conn, *memConn, *writer) {
	t.Helper()
	ca := newAuthority(t, "root")
	var log strings.Builder
	s := Server(ca.holder(idCart), ServerParams{ALPN: []string{"tulle/tcp.1"}})
	var m memConn
	client := tls.Client(&m, &tls.Config{
		InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, NextProtos: []string{"tulle/tcp.1"},
		Certificates: []tls.Certificate{ca.issue(idWeb, nil)}, KeyLogWriter: &log,
	})
	m.yield = func(struct{}) bool {
		out, _, err := s.Step(m.out)
		if err != nil {
			t.Fatal(err)
		}
		m.out = m.out[:0]
		m.in = append(m.in, out...)
		return true
	}
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	m.yield = nil
	if _, done, err := s.Step(m.out); !done || err != nil {
		t.Fatal(done, err)
	}
	if client.ConnectionState().CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
		t.Skip("no AES in this machine's hardware: another suite")
	}
	for line := range strings.Lines(log.String()) {
		if f := strings.Fields(line); f[0] == "CLIENT_TRAFFIC_SECRET_0" {
			secret, err := hex.DecodeString(f[2])
			if err != nil {
				t.Fatal(err)
			}
			return s, client, &m, newWriter(t, secret)
		}
	}
	t.Fatal("no secret")
	return nil, nil, nil, nil
}

var (
	keyUpdate          = []byte{24, 0, 0, 1, 0}
	keyUpdateRequested = []byte{24, 0, 0, 1, 1}
)

// A peer may change its keys, and ask us to change ours, at any time (RFC 8446, 4.6.3).
func TestKeyUpdate(t *testing.T) {
	s, client, m, w := takeOver(t)
	wire := w.record(23, []byte("old key, "))
	wire = append(wire, w.record(22, keyUpdate)...)
	w = w.next()
	wire = append(wire, w.record(23, []byte("second key, "))...)
	half := w.record(22, keyUpdateRequested[:2]) // a message over two records
	wire = append(wire, half...)
	s.Feed(wire)
	if got := readAll(t, s); got != "old key, second key, " {
		t.Fatal(got)
	}
	if len(s.Output()) != 0 {
		t.Fatal("an answer to what was not asked")
	}
	wire = w.record(22, keyUpdateRequested[2:])
	w = w.next()
	s.Feed(append(wire, w.record(23, []byte("third key"))...))
	if got := readAll(t, s); got != "third key" {
		t.Fatal(got)
	}
	if len(s.Output()) == 0 {
		t.Fatal("no answer to a request")
	}
	if err := s.Write([]byte("ours is new too")); err != nil {
		t.Fatal(err)
	}
	m.in, m.out = s.Take(nil), nil
	p := make([]byte, 100)
	if n, err := client.Read(p); err != nil || string(p[:n]) != "ours is new too" {
		t.Fatal(string(p[:n]), err)
	}
}

// R4.5 in spirit: updates without data between them end the session.
func TestKeyUpdateFlood(t *testing.T) {
	s, _, _, w := takeOver(t)
	for range 100 {
		s.Feed(w.record(22, keyUpdateRequested))
		w = w.next()
		if _, err := s.Read(make([]byte, 10)); !errors.Is(err, ErrAgain) {
			return
		}
	}
	t.Error("100 key updates in a row are taken")
}
