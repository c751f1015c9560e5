package identity

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/tulle-mesh/tulle/cli/cluster"
	"github.com/tulle-mesh/tulle/cli/console"
	"github.com/tulle-mesh/tulle/cli/exit"
	"github.com/tulle-mesh/tulle/cli/mesh"
	"github.com/tulle-mesh/tulle/internal/leak"
	"github.com/tulle-mesh/tulle/internal/run"
)

func TestMain(m *testing.M) { leak.Main(m) }

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

type pair struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// issue makes a certificate signed by by, or by itself.
func issue(t *testing.T, by *pair, tmpl x509.Certificate) *pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if by == nil {
		by = &pair{&tmpl, key}
	}
	tmpl.SerialNumber = big.NewInt(255)
	der, err := x509.CreateCertificate(rand.Reader, &tmpl, by.cert, &key.PublicKey, by.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &pair{cert, key}
}

func root(t *testing.T) *pair {
	return issue(t, nil, x509.Certificate{
		Subject: pkix.Name{CommonName: "root"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	})
}

func leaf(t *testing.T, by *pair, id string, until time.Duration) *pair {
	t.Helper()
	u, err := url.Parse(id)
	if err != nil {
		t.Fatal(err)
	}
	return issue(t, by, x509.Certificate{
		URIs: []*url.URL{u}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(until), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
}

func text(p *pair) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.cert.Raw}))
}

func TestCertificatesAreVerifiedAsAPeerDoes(t *testing.T) { // R5.2
	const id = "spiffe://cluster.local/ns/shop/sa/web"
	ca := root(t)
	good := leaf(t, ca, id, 30*time.Minute)
	for _, c := range []struct {
		name   string
		chain  string
		bundle string
		want   string
	}{
		{"good", text(good), text(ca), "spiffe://cluster.local/ns/shop/sa/web   in 30m0s   yes"},
		{"of another root", text(good), text(root(t)), "no: x509: certificate signed by unknown authority"},
		{"expired", text(leaf(t, ca, id, -time.Minute)), text(ca), "no: x509: certificate has expired"},
		{"for somebody else", text(leaf(t, ca, "spiffe://cluster.local/ns/shop/sa/db", time.Minute)), text(ca), "no: the certificate is not one for " + id + " alone"},
		{"none yet", "", text(ca), "no: the proxy has no certificate yet"},
		{"no bundle", text(good), "", "no: the trust bundle of namespace shop holds no certificate"},
	} {
		door := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if err := json.NewEncoder(w).Encode(map[string]any{"identity": id, "notAfter": now.Add(30 * time.Minute), "chain": c.chain}); err != nil {
				t.Error(err)
			}
		}))
		k := &cluster.Cluster{
			Kube: fake.NewClientset(
				&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-1"}, Spec: corev1.PodSpec{InitContainers: []corev1.Container{{Name: mesh.Proxy}}}},
				&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: mesh.Bundle}, Data: map[string]string{mesh.BundleKey: c.bundle}},
			),
			Namespace: "shop", Tulle: "tulle", Now: func() time.Time { return now },
			Dial: func(ctx context.Context, _, _ string, _ int) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "tcp", door.Listener.Addr().String())
			},
		}
		var out bytes.Buffer
		cmd := New(cluster.NewAccess(func(cluster.Flags) (*cluster.Cluster, error) { return k, nil }),
			console.New(run.Streams{Out: &out, Err: &out}, func(string) string { return "" }))
		cmd.SetArgs([]string{"web-1"})
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		err := cmd.ExecuteContext(t.Context())
		wantCode := exit.Failed
		if c.name == "good" {
			wantCode = exit.Done
		}
		if exit.Code(err) != wantCode || !strings.Contains(out.String(), c.want) {
			t.Errorf("%s: %v\n%s\nwant %s", c.name, err, out.String(), c.want)
		}
		door.Close()
	}
}
