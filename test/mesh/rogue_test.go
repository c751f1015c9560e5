package mesh

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/identity"
	"github.com/tulle-mesh/tulle/internal/mesh"
)

// ca is an authority in a test's hands: it signs whatever is asked for.
type ca struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newCA(t testing.TB, name string) *ca {
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, SubjectKeyId: []byte(name),
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key))
	return &ca{t: t, cert: must[*x509.Certificate](t)(x509.ParseCertificate(der)), key: key}
}

// given writes the authority as files.
func (a *ca) given() *identity.Given {
	dir := a.t.TempDir()
	g := &identity.Given{CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem")}
	ok(a.t, os.WriteFile(g.CertFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}), 0o600))
	der := must[[]byte](a.t)(x509.MarshalPKCS8PrivateKey(a.key))
	ok(a.t, os.WriteFile(g.KeyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	return g
}

// leaf signs a certificate for ids that began and ends so far from now.
func (a *ca) leaf(begin, end time.Duration, ids ...mesh.Identity) tls.Certificate {
	a.t.Helper()
	key := must[*ecdsa.PrivateKey](a.t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(begin), NotAfter: time.Now().Add(end),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, id := range ids {
		tmpl.URIs = append(tmpl.URIs, must[*url.URL](a.t)(url.Parse(string(id))))
	}
	der := must[[]byte](a.t)(x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// rogue is a peer that is not who it should be.
type rogue struct {
	name string
	cert tls.Certificate
	says []string // what the refusal names
	fine bool     // it is who it should be: the test can fail
}

func rogues(good, foreign *ca, id mesh.Identity) []rogue {
	day := 24 * time.Hour
	boss := mesh.NewIdentity(trustDomain, "shop", "boss")
	return []rogue{
		{name: "nobody's rogue", cert: good.leaf(-time.Hour, day, id), fine: true},
		{name: "foreign root", cert: foreign.leaf(-time.Hour, day, id), says: []string{"unknown authority"}},
		{name: "expired", cert: good.leaf(-day, -time.Minute, id), says: []string{"expired"}},
		{name: "not yet valid", cert: good.leaf(time.Hour, day, id), says: []string{"not yet valid"}},
		{name: "two identities", cert: good.leaf(-time.Hour, day, id, boss), says: []string{"2 URI"}},
		{name: "no identity", cert: good.leaf(-time.Hour, day), says: []string{"URI"}},
	}
}

// R5.2, R8.2: a server that is not who discovery says is refused before it hears a word, and the
// client is told what and why.
func TestRogueServersAreRefused(t *testing.T) {
	for _, m := range []mode{inProcess, binaries} {
		t.Run(m.String(), func(t *testing.T) {
			good, foreign := newCA(t, "good"), newCA(t, "foreign")
			list := append(rogues(good, foreign, serverID), rogue{
				name: "another identity", cert: good.leaf(-time.Hour, time.Hour, mesh.NewIdentity(trustDomain, "shop", "boss")),
				says: []string{"sa/boss", "sa/server"},
			})
			cfg := worldConfig{mode: m, slots: len(list) + 1, plane: planeConfig{authority: identity.AuthorityConfig{Given: good.given()}}}
			w := bareWorld(t, cfg)
			w.announce(cfg, w.net+"6")
			w.client = w.start(w.clientSpec(false))
			for i, r := range list {
				t.Run(r.name, func(t *testing.T) { w.tryServer(t, i, r) })
			}
			t.Run("plaintext", func(t *testing.T) { w.tryPlaintext(t, len(list)) })
		})
	}
}

// tryServer stands in for the server's proxy on slot i.
func (w *world) tryServer(t *testing.T, i int, r rogue) {
	heard, shook := w.serveRogue(t, i, &r.cert)
	dial := addrPort(w.net+"2", slotPort(i)).String()
	if r.fine {
		newRaw(t, connect(t, dial)).send("GET /secret HTTP/1.1\r\nHost: x\r\n\r\n")
		until(t, "handshake", func() bool { return shook.Load() > 0 && heard.Load() > 0 })
		return
	}
	resp, err := http1Client(t).Get("http://" + dial + "/secret")
	ok(t, err)
	resp.Body.Close()
	why := resp.Header.Get("tulle-proxy-error")
	if resp.StatusCode != http.StatusBadGateway {
		t.Errorf("%s", resp.Status)
	}
	for _, s := range append(r.says, "server.shop", w.net+"6") {
		if !strings.Contains(why, s) {
			t.Errorf("the refusal %q does not say %q", why, s)
		}
	}
	t.Log(why)

	c := newRaw(t, connect(t, dial)) // and bytes
	c.send(opaque)
	c.wantReset()
	if shook.Load() > 0 || heard.Load() > 0 {
		t.Errorf("%d handshakes were finished, %d bytes heard", shook.Load(), heard.Load())
	}
}

// serveRogue is mesh TLS of crypto/tls with any certificate; nil for no TLS at all. It counts the
// handshakes that were finished and the bytes that it was told.
func (w *world) serveRogue(t *testing.T, i int, cert *tls.Certificate) (heard, shook *atomic.Int64) {
	heard, shook = &atomic.Int64{}, &atomic.Int64{}
	l, err := net.Listen("tcp", addrPort(w.net+"6", slotPort(i)).String())
	ok(t, err)
	serveTCP(t, l, func(c *net.TCPConn) {
		var rw net.Conn = c
		if cert != nil {
			s := tls.Server(c, &tls.Config{
				Certificates: []tls.Certificate{*cert}, ClientAuth: tls.RequireAnyClientCert,
				NextProtos: []string{"tulle/h2.1", "tulle/tcp.1"}, MinVersion: tls.VersionTLS13,
			})
			if s.Handshake() != nil {
				return
			}
			shook.Add(1)
			rw = s
		}
		buf := make([]byte, 1024)
		for {
			n, err := rw.Read(buf)
			if cert != nil || strings.Contains(string(buf[:n]), "secret") {
				heard.Add(int64(n))
			}
			if err != nil {
				return
			}
		}
	})
	return heard, shook
}

// R5.6: never a downgrade. A peer that should speak mesh TLS and does not gets no plaintext.
func (w *world) tryPlaintext(t *testing.T, i int) {
	l, err := net.Listen("tcp", addrPort(w.net+"6", slotPort(i)).String())
	ok(t, err)
	var heard atomic.Int64
	serveTCP(t, l, func(c *net.TCPConn) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		b, _ := io.ReadAll(c)
		if strings.Contains(string(b), "secret") {
			heard.Add(1)
		}
	})
	resp, err := http1Client(t).Get("http://" + addrPort(w.net+"2", slotPort(i)).String() + "/secret")
	ok(t, err)
	resp.Body.Close()
	t.Log(resp.Header.Get("tulle-proxy-error"))
	if resp.StatusCode != http.StatusBadGateway || heard.Load() != 0 {
		t.Errorf("%s, heard %d times", resp.Status, heard.Load())
	}
}

// R5.2: a client that cannot prove who it is reaches no application, and the proxy's log says why.
func TestRogueClientsAreRefused(t *testing.T) {
	for _, m := range []mode{inProcess, binaries} {
		t.Run(m.String(), func(t *testing.T) {
			good, foreign := newCA(t, "good"), newCA(t, "foreign")
			cfg := worldConfig{mode: m, slots: 2, plane: planeConfig{authority: identity.AuthorityConfig{Given: good.given()}}}
			w := bareWorld(t, cfg)
			w.announce(cfg, "")
			w.server = w.start(w.serverSpec(false))
			var reached atomic.Int64
			dial := addrPort(w.net+"4", slotPort(0)).String()
			l, err := net.Listen("tcp", addrPort(w.net+"5", slotPort(0)).String())
			ok(t, err)
			serveTCP(t, l, func(c *net.TCPConn) {
				reached.Add(1)
				io.Copy(io.Discard, c)
			})
			list := append(rogues(good, foreign, clientID), rogue{name: "no certificate", says: []string{"certificate"}})
			for _, alpn := range []string{"tulle/h2.1", "tulle/tcp.1"} {
				for _, r := range list {
					t.Run(alpn+" "+r.name, func(t *testing.T) { w.tryClient(t, r, alpn, dial, &reached) })
				}
			}
		})
	}
}

func (w *world) tryClient(t *testing.T, r rogue, alpn, dial string, reached *atomic.Int64) {
	before, said := reached.Load(), len(w.server.logs.String())
	cfg := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{alpn}, MinVersion: tls.VersionTLS13}
	if len(r.cert.Certificate) > 0 {
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &r.cert, nil }
	}
	c := tls.Client(connect(t, dial), cfg)
	ok(t, c.SetDeadline(deadline(t)))
	defer c.Close()
	_, err := io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	if err == nil {
		_, err = c.Read(make([]byte, 1))
	}
	if r.fine {
		ok(t, err)
		until(t, "connection to the application", func() bool { return alpn == "tulle/h2.1" || reached.Load() > before })
		return
	}
	if err == nil || !strings.Contains(err.Error(), "tls: ") && !isReset(err) {
		t.Errorf("got %v, want an alert", err)
	}
	log := ""
	until(t, "line in the log", func() bool {
		log = w.server.logs.String()[said:]
		return strings.Contains(log, "inbound connection ended")
	})
	for _, s := range r.says {
		if !strings.Contains(log, s) {
			t.Errorf("the log %q does not say %q", log, s)
		}
	}
	if reached.Load() != before {
		t.Error("the application was reached")
	}
}
