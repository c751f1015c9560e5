package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestLongRootIsRotated: R10.1, R10.3. A new root joins the trust bundle of every proxy and namespace, signs, and the old
// one leaves, while traffic goes on. The hour that a new root settles for, and the lifetime for which the old one is kept,
// are taken out of the authority's state.
func TestLongRootIsRotated(t *testing.T) {
	long(t)
	e := setup(t)
	e.configure("identity.leafLifetime=10m")
	e.kubectl("annotate", "namespace", e.namespace, "tulle.dev/inject=enabled")
	x := e.traffic("gracefully")
	first := e.rootOf("deploy/client")
	x.during("a root is asked for", func() {
		e.in(t, "tulle").kubectl("exec", "deployment/tulle-identity", "--", "/tulle-controller", "rotate", "--source=kubernetes", "--namespace=tulle")
		e.roots(2)
		e.followed()
	})
	x.during("it signs", func() {
		e.backdate("added")
		e.signedBy(func(root string) bool { return root != first })
	})
	x.during("the old one leaves", func() {
		e.backdate("superseded")
		e.roots(1)
		e.followed()
	})
	x.during("servers 3", func() { x.scale("app=gracefully", 3) }) // what starts now is certified and told
	x.want(x.end(), 2000)
}

// TestLongAuthorityIsGiven: R10.1, R10.3. The authority is somebody else's, in Secrets as cert-manager writes them; the
// issuer is renewed, and then comes below another root, as docs/controller.md says.
func TestLongAuthorityIsGiven(t *testing.T) {
	long(t)
	e := setup(t)
	if e.installed() {
		e.delete(e.uninstall())
	}
	t.Cleanup(func() { // its authority is nobody's to go on with
		out, err := exec.CommandContext(context.WithoutCancel(t.Context()), e.tulle, "--kubeconfig="+e.Kubeconfig(), "uninstall", "--force").Output()
		if err == nil {
			cmd := e.Command(context.WithoutCancel(t.Context()), "delete", "--ignore-not-found", "-f", "-")
			cmd.Stdin = strings.NewReader(string(out))
			out, err = cmd.CombinedOutput()
		}
		if err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	e.applyNamed(e.mustTulle("install", "--crds"))
	e.established()
	root1, root2 := newAuthority(t, "root 1", nil), newAuthority(t, "root 2", nil)
	plane := e.in(t, "tulle")
	e.kubectl("create", "namespace", "tulle")
	plane.give("tulle-identity-issuer", newAuthority(t, "issuer 1", root1), root1)
	e.applyNamed(e.mustTulle("install", "--set", "identity.leafLifetime=10m"))
	e.mustTulle("check", "--wait", "90s")
	e.kubectl("annotate", "namespace", e.namespace, "tulle.dev/inject=enabled")
	x := e.traffic("gracefully")
	issuer := func(name string) {
		e.until(func(context.Context) error {
			for pod := range e.pods("tulle.dev/proxy=true") {
				if chain := e.chain(pod); len(chain) != 2 || chain[1].Subject.CommonName != name {
					return fmt.Errorf("%s shows %d certificates, the second of %s, want %s", pod, len(chain), chain[len(chain)-1].Subject, name)
				}
			}
			return nil
		})
	}
	issuer("issuer 1")
	x.during("the issuer is renewed", func() {
		plane.give("tulle-identity-issuer", newAuthority(t, "issuer 2", root1), root1)
		issuer("issuer 2")
	})
	x.during("another root joins", func() {
		plane.give("tulle-identity-issuer", newAuthority(t, "issuer 2", root1), root1, root2)
		e.roots(2)
		e.followed()
	})
	x.during("it signs", func() {
		plane.give("tulle-identity-issuer", newAuthority(t, "issuer 3", root2), root2, root1)
		issuer("issuer 3")
	})
	x.during("the first one leaves", func() {
		plane.give("tulle-identity-issuer", newAuthority(t, "issuer 3", root2), root2)
		e.roots(1)
		e.followed()
	})
	x.during("servers 3", func() { x.scale("app=gracefully", 3) })
	x.want(x.end(), 2000)
}

// TestLongInjectorsCertificateIsRotated: R13.1. The API server's caBundle holds the old authority and the new one; pods are
// injected all the time. Certificates are put where time would have brought them.
func TestLongInjectorsCertificateIsRotated(t *testing.T) {
	long(t)
	e := setup(t)
	e.configure("injector.failurePolicy=Fail", "controlPlane.replicas=2")
	e.kubectl("annotate", "namespace", e.namespace, "tulle.dev/inject=enabled")
	plane := e.in(t, "tulle")
	ctx, stop := context.WithCancel(t.Context())
	asked := make(chan error, 1)
	go func() { asked <- e.injectedUntil(ctx) }() // ends with ctx, awaited below

	old := newPair(t, time.Now().Add(-61*24*time.Hour))
	next := newPair(t, time.Now().Add(-10*time.Minute))
	plane.patchSecret("tulle-injector-tls", map[string][]byte{"tls.crt": old.cert, "tls.key": old.key, "ca.crt": append(plane.secret("tulle-injector-tls", "ca.crt"), old.ca...)})
	authorities := func(want int) {
		e.until(func(ctx context.Context) error {
			out, err := e.Kubectl(ctx, "get", "mutatingwebhookconfiguration/tulle-injector", "--output=jsonpath={.webhooks[*].clientConfig.caBundle}")
			for bundle := range strings.FieldsSeq(out) {
				b, decodeErr := base64.StdEncoding.DecodeString(bundle)
				if n := strings.Count(string(b), "BEGIN CERTIFICATE"); n != want {
					err = errors.Join(err, decodeErr, fmt.Errorf("the caBundle holds %d authorities, want %d", n, want))
				}
			}
			return err
		})
	}
	authorities(2)
	e.until(func(context.Context) error {
		if plane.secret("tulle-injector-tls", "next.crt") == nil {
			return errors.New("no other certificate is announced")
		}
		return nil
	})
	plane.patchSecret("tulle-injector-tls", map[string][]byte{"next.crt": next.cert, "next.key": next.key, "ca.crt": append(old.ca, next.ca...)})
	e.until(func(context.Context) error {
		if string(plane.secret("tulle-injector-tls", "tls.crt")) != string(next.cert) {
			return errors.New("the announced certificate is not used")
		}
		return nil
	})
	e.mustTulle("check", "--wait", "60s")
	stop()
	if err := <-asked; err != nil {
		t.Error(err)
	}
}

// injectedUntil asks, over and over, what would become of a pod.
func (e *env) injectedUntil(ctx context.Context) error {
	n := 0
	for ; ctx.Err() == nil; n++ {
		cmd := e.Command(context.WithoutCancel(ctx), "--namespace="+e.namespace, "run", "asked", "--image=tulle.test/tools:1", "--dry-run=server", "--output=jsonpath={.spec.initContainers[*].name}")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "tulle-proxy") {
			return fmt.Errorf("after %d pods: %w: %s", n, err, out)
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
	e.t.Logf("%d pods were injected meanwhile", n)
	return nil
}

// TestLongTwoReplicas: two of each service. Whoever leads ends without a word: pods are injected, certified and told as
// before, and another one leads.
func TestLongTwoReplicas(t *testing.T) {
	long(t)
	e := setup(t)
	e.configure("controlPlane.replicas=2", "injector.failurePolicy=Fail", "identity.leafLifetime=4m")
	e.kubectl("annotate", "namespace", e.namespace, "tulle.dev/inject=enabled")
	x := e.traffic("gracefully")
	plane := e.in(t, "tulle")
	replicas := 2
	for lease := range strings.FieldsSeq(plane.kubectl("get", "leases", "--output=name")) {
		leader := plane.field(lease, "{.spec.holderIdentity}")
		x.during(lease+" is lost", func() {
			begun := time.Now()
			plane.silence(leader)
			replicas++
			e.kubectl("scale", "deployment/gracefully", fmt.Sprintf("--replicas=%d", replicas))
			e.ready("app=gracefully")
			t.Logf("%s: a new pod was ready after %.1f s", lease, time.Since(begun).Seconds())
			e.until(func(context.Context) error {
				if now := plane.field(lease, "{.spec.holderIdentity}"); now == "" || now == leader {
					return fmt.Errorf("%s is still held by %q", lease, now)
				}
				return nil
			})
			t.Logf("%s: another one leads after %.1f s", lease, time.Since(begun).Seconds())
			plane.rollout(controlPlane...)
		})
	}
	x.during("a destination is lost", func() {
		for pod := range plane.pods("app.kubernetes.io/component=destination") {
			plane.silence(pod)
			break
		}
		e.scale("app=gracefully", 2)
		plane.rollout(controlPlane...)
	})
	x.want(x.end(), 2000)
}

// silence ends a pod of the control plane that says nothing any more: it neither gives its Lease back nor closes what is open.
func (e *env) silence(pod string) {
	e.t.Helper()
	want := []byte("\x00HOSTNAME=" + pod + "\x00")
	pid, err := processWith("environ", func(b []byte) bool { return bytes.Contains(b, want) })
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGSTOP) // the kubelet's SIGTERM is not heard; its SIGKILL is
	}
	if err != nil {
		e.t.Fatalf("%s: %v", pod, err)
	}
	e.kubectl("delete", "pod", pod, "--grace-period=0", "--force", "--wait=false")
}

// authority is a certificate that signs others.
type authority struct {
	cert            *x509.Certificate
	key             *ecdsa.PrivateKey
	certPEM, keyPEM []byte
}

func newAuthority(t *testing.T, name string, by *authority) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a := &authority{key: key}
	parent, signer := tmpl, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.certPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	a.keyPEM = keyPEM(t, key)
	return a
}

func keyPEM(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// webhookPair is a certificate of the injector's, with its authority.
type webhookPair struct{ cert, key, ca []byte }

func newPair(t *testing.T, begun time.Time) webhookPair {
	t.Helper()
	ca := newAuthority(t, "tulle-injector authority "+begun.Format(time.DateOnly), nil)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "tulle-injector"},
		DNSNames:  []string{"tulle-injector.tulle.svc", "tulle-injector.tulle"},
		NotBefore: begun, NotAfter: begun.Add(90 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	return webhookPair{pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), keyPEM(t, key), ca.certPEM}
}

// give writes an issuer as cert-manager does, with the roots to trust.
func (e *env) give(secret string, issuer *authority, roots ...*authority) {
	e.t.Helper()
	var ca []byte
	for _, r := range roots {
		ca = append(ca, r.certPEM...)
	}
	encode := base64.StdEncoding.EncodeToString
	e.apply(fmt.Sprintf("apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {name: %s}\ndata: {tls.crt: %s, tls.key: %s, ca.crt: %s}\n",
		secret, encode(issuer.certPEM), encode(issuer.keyPEM), encode(ca)))
}

// secret is one value of a Secret, nil where there is none.
func (e *env) secret(name, key string) []byte {
	e.t.Helper()
	b, err := base64.StdEncoding.DecodeString(e.field("secret/"+name, "{.data."+strings.ReplaceAll(key, ".", `\.`)+"}"))
	if err != nil {
		e.t.Fatal(err)
	}
	if len(b) == 0 {
		return nil
	}
	return b
}

func (e *env) patchSecret(name string, values map[string][]byte) {
	e.t.Helper()
	patch, err := json.Marshal(map[string]any{"data": values})
	if err != nil {
		e.t.Fatal(err)
	}
	e.kubectl("patch", "secret", name, "--type=merge", "--patch="+string(patch))
}

// chain is what a pod's proxy shows.
func (e *env) chain(pod string) (certs []*x509.Certificate) {
	e.t.Helper()
	var said struct{ Identity struct{ Chain string } }
	if err := json.Unmarshal([]byte(e.mustTulle("--namespace="+e.namespace, "diagnostics", "proxy", pod, "--output=json")), &said); err != nil {
		e.t.Fatal(err)
	}
	for block, rest := pem.Decode([]byte(said.Identity.Chain)); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			e.t.Fatal(err)
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		e.t.Fatalf("%s shows no certificate", pod)
	}
	return certs
}

// rootOf names the root that a proxy's certificate is below.
func (e *env) rootOf(pod string) string {
	e.t.Helper()
	chain := e.chain(pod)
	return fmt.Sprintf("%x", chain[len(chain)-1].AuthorityKeyId)
}

// signedBy waits until every proxy's certificate is below a root that will do.
func (e *env) signedBy(good func(root string) bool) {
	e.t.Helper()
	e.until(func(context.Context) error {
		for pod := range e.pods("tulle.dev/proxy=true") {
			if root := e.rootOf(pod); !good(root) {
				return fmt.Errorf("%s is still below %s", pod, root)
			}
		}
		return nil
	})
}

// roots waits until the trust bundle of identity, and of the test's namespace, holds so many.
func (e *env) roots(want int) {
	e.t.Helper()
	e.until(func(context.Context) error {
		bundle := e.field("configmap/tulle-trust-bundle", `{.data.trust-bundle\.pem}`)
		if n := strings.Count(bundle, "BEGIN CERTIFICATE"); n != want {
			return fmt.Errorf("the mounted bundle holds %d roots, want %d", n, want)
		}
		return nil
	})
}

// followed waits until every proxy has the newest trust bundle in force, by its own word and by identity's.
func (e *env) followed() {
	e.t.Helper()
	e.until(func(ctx context.Context) error {
		behind, version := 0., 0.
		for _, ip := range e.in(e.t, "tulle").pods("app.kubernetes.io/component=identity") {
			text, _, err := fetch(ctx, "http://"+net.JoinHostPort(ip, "9990")+"/metrics")
			if err != nil {
				return err
			}
			behind += metric(text, `identity_trust_watchers{standing="behind"`) + metric(text, `identity_trust_watchers{standing="refused"`)
			version = metric(text, "identity_trust_version")
		}
		if behind > 0 || version == 0 {
			return fmt.Errorf("%.0f proxies are behind %.0f", behind, version)
		}
		for pod, ip := range e.pods("tulle.dev/proxy=true") {
			text, _, err := fetch(ctx, "http://"+net.JoinHostPort(ip, "4191")+"/metrics")
			if err != nil {
				return err
			}
			if has := metric(text, "identity_cert_trust_version"); has != version {
				return fmt.Errorf("%s has %.0f in force, want %.0f", pod, has, version)
			}
		}
		return nil
	})
}

// backdate has what the authority's state says of a root ("added", "superseded") lie two days back.
func (e *env) backdate(what string) {
	e.t.Helper()
	plane := e.in(e.t, "tulle")
	e.until(func(context.Context) error {
		var state map[string]any
		if err := json.Unmarshal(plane.secret("tulle-identity-root", "authority.json"), &state); err != nil {
			return err
		}
		found := false
		roots, _ := state["roots"].([]any)
		for _, r := range roots {
			root, _ := r.(map[string]any)
			if _, ok := root[what]; ok && (what != "added" || root["promoted"] == nil) {
				root[what], found = time.Now().Add(-48*time.Hour).UTC().Format(time.RFC3339), true
			}
		}
		if !found {
			return fmt.Errorf("no root was %s", what)
		}
		version, _ := state["version"].(float64)
		state["version"] = uint64(version) + 1
		b, err := json.Marshal(state)
		if err != nil {
			return err
		}
		plane.patchSecret("tulle-identity-root", map[string][]byte{"authority.json": b})
		return nil
	})
}
