package check

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tulle-mesh/tulle/cli/mesh"
)

// What is left of a lifetime when a certificate should have been renewed long ago: issuers and roots are
// renewed with a third of theirs left.
const lateFraction = 10

func parseCertificates(raw []byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for rest := raw; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, errors.New("holds no certificate")
	}
	return all, nil
}

// validity judges when c is valid, at now.
func validity(what string, c *x509.Certificate, now time.Time) Finding {
	left := c.NotAfter.Sub(now)
	switch {
	case now.Before(c.NotBefore):
		return fail("%s is valid only from %s on", what, c.NotBefore.UTC().Format(time.RFC3339))
	case left <= 0:
		return fail("%s expired at %s", what, c.NotAfter.UTC().Format(time.RFC3339))
	case left < c.NotAfter.Sub(c.NotBefore)/lateFraction:
		return warn("%s expires in %s, at %s, and should have been renewed", what, round(left), c.NotAfter.UTC().Format(time.RFC3339))
	}
	return ok("until %s", c.NotAfter.UTC().Format(time.RFC3339))
}

// round writes a duration as a person would say it.
func round(d time.Duration) string {
	if d > 48*time.Hour {
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	}
	return d.Round(time.Second).String()
}

// certificate is the first one of a Secret of the control plane.
func (e *env) certificate(ctx context.Context, secret string) (*x509.Certificate, Finding) {
	what := "Secret " + e.Tulle + "/" + secret
	s, err := e.secret(ctx, secret)
	if err != nil {
		return nil, e.lacking(what, err)
	}
	all, err := parseCertificates(s.Data[corev1.TLSCertKey])
	if err != nil {
		return nil, e.own(s, fail("%s: %s: %s", what, corev1.TLSCertKey, err))
	}
	return all[0], Finding{}
}

// own leaves a finding about a Secret as it is where Tulle made it, and renews it. Nobody else writes a given one but who
// gave it.
func (e *env) own(s *corev1.Secret, f Finding) Finding {
	if s.Labels[mesh.ManagedBy] == mesh.Identity || f.Status == OK {
		return f
	}
	return f.trying(fmt.Sprintf("renew Secret %s/%s where it was made: without the label %s: %s Tulle does not write it",
		e.Tulle, s.Name, mesh.ManagedBy, mesh.Identity))
}

// ofSecret is own by the Secret's name.
func (e *env) ofSecret(ctx context.Context, name string, f Finding) Finding {
	s, err := e.secret(ctx, name)
	if err != nil {
		return f // it was read already
	}
	return e.own(s, f)
}

// rootCertificate is the root, and the Secret that holds it: with a given issuer its own may.
func (e *env) rootCertificate(ctx context.Context) (root *x509.Certificate, secret string, bad Finding) {
	root, bad = e.certificate(ctx, mesh.RootSecret)
	if root != nil {
		return root, mesh.RootSecret, bad
	}
	issuer, err := e.secret(ctx, mesh.IssuerSecret)
	if err != nil || len(issuer.Data[caKey]) == 0 {
		return nil, "", bad
	}
	all, err := parseCertificates(issuer.Data[caKey])
	if err != nil {
		return nil, "", fail("Secret %s/%s: %s: %s", e.Tulle, mesh.IssuerSecret, caKey, err)
	}
	return all[0], mesh.IssuerSecret, Finding{}
}

// caKey is where a given issuer has its roots, as cert-manager writes it.
const caKey = "ca.crt"

func rootValid(ctx context.Context, e *env) Finding {
	root, secret, bad := e.rootCertificate(ctx)
	if root == nil {
		return bad
	}
	if !root.IsCA {
		return fail("the root in Secret %s/%s is no authority (CA)", e.Tulle, secret)
	}
	return e.ofSecret(ctx, secret, validity("the root", root, e.Time()))
}

// issuerValid accepts an issuer of any root that proxies accept: in a rotation there are two.
func issuerValid(ctx context.Context, e *env) Finding {
	root, _, bad := e.rootCertificate(ctx)
	if root == nil {
		return bad
	}
	issuer, bad := e.certificate(ctx, mesh.IssuerSecret)
	if issuer == nil {
		return bad
	}
	roots := []*x509.Certificate{root}
	if own, missing := e.bundle(ctx, e.Tulle); missing == nil {
		more, _ := parseCertificates([]byte(own)) // the bundle has a check of its own
		roots = append(roots, more...)
	}
	chain := []*x509.Certificate{issuer}
	if s, err := e.secret(ctx, mesh.IssuerSecret); err == nil {
		chain, _ = parseCertificates(s.Data[corev1.TLSCertKey]) // it was read already
	}
	if err := leads(chain, roots); err != nil {
		return fail("the issuer in Secret %s/%s was signed by no root that proxies accept: %s", e.Tulle, mesh.IssuerSecret, err)
	}
	return e.ofSecret(ctx, mesh.IssuerSecret, validity("the issuer", issuer, e.Time()))
}

// leads is nil when each certificate of a chain was signed by the next one, until one was by a root.
func leads(chain, roots []*x509.Certificate) (err error) {
	for i, c := range chain {
		for _, r := range roots {
			if err = c.CheckSignatureFrom(r); err == nil {
				return nil
			}
		}
		if i+1 < len(chain) && c.CheckSignatureFrom(chain[i+1]) != nil {
			return err
		}
	}
	return err
}

// bundles looks for the trust bundle where proxies mount it, and whether all of them are the same one.
func bundles(ctx context.Context, e *env) Finding {
	own, err := e.bundle(ctx, e.Tulle)
	if err != nil {
		return e.lacking(fmt.Sprintf("ConfigMap %s/%s", e.Tulle, mesh.Bundle), err)
	}
	if _, err := parseCertificates([]byte(own)); err != nil {
		return fail("ConfigMap %s/%s: %s: %s", e.Tulle, mesh.Bundle, mesh.BundleKey, err)
	}
	var problems []string
	if root, _ := e.certificate(ctx, mesh.RootSecret); root != nil && !bytes.Contains([]byte(own), certificatePEM(root)) {
		problems = append(problems, fmt.Sprintf("ConfigMap %s/%s does not hold the root", e.Tulle, mesh.Bundle))
	}
	pods, err := e.meshed(ctx)
	if err != nil {
		return unknown(err)
	}
	seen := map[string]bool{e.Tulle: true}
	for i := range pods {
		ns := pods[i].Namespace
		if seen[ns] {
			continue
		}
		seen[ns] = true
		switch there, err := e.bundle(ctx, ns); {
		case apierrors.IsNotFound(err):
			problems = append(problems, fmt.Sprintf("ConfigMap %s/%s does not exist: new pods there do not start", ns, mesh.Bundle))
		case err != nil:
			return unknown(e.Explain("get a trust bundle", err))
		case there != own:
			problems = append(problems, fmt.Sprintf("ConfigMap %s/%s differs from the one in %s", ns, mesh.Bundle, e.Tulle))
		}
	}
	return failures(problems, "in "+count(len(seen), "namespace"))
}

func certificatePEM(c *x509.Certificate) []byte {
	return bytes.TrimSpace(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

func (e *env) bundle(ctx context.Context, namespace string) (string, error) {
	cm, err := e.Kube.CoreV1().ConfigMaps(namespace).Get(ctx, mesh.Bundle, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	return cm.Data[mesh.BundleKey], nil
}

// webhookCertificate does what the API server does: verify the injector's certificate with the CA bundle
// of the webhook, for the Service's name.
func webhookCertificate(ctx context.Context, e *env) Finding {
	hook, err := e.Kube.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, mesh.Webhook, metav1.GetOptions{})
	if err != nil {
		return e.lacking("MutatingWebhookConfiguration "+mesh.Webhook, err)
	}
	s, err := e.secret(ctx, mesh.InjectorSecret)
	if err != nil {
		return e.lacking("Secret "+e.Tulle+"/"+mesh.InjectorSecret, err)
	}
	chain, err := parseCertificates(s.Data[corev1.TLSCertKey])
	if err != nil {
		return fail("Secret %s/%s: %s: %s", e.Tulle, mesh.InjectorSecret, corev1.TLSCertKey, err)
	}
	name := mesh.Injector + "." + e.Tulle + ".svc"
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	var problems []string
	for _, w := range hook.Webhooks {
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(w.ClientConfig.CABundle) {
			problems = append(problems, fmt.Sprintf("webhook %s has no CA bundle: the injector has not set it yet", w.Name))
			continue
		}
		_, err := chain[0].Verify(x509.VerifyOptions{DNSName: name, Roots: roots, Intermediates: between, CurrentTime: e.Time()})
		if err != nil {
			problems = append(problems, fmt.Sprintf("webhook %s: the CA bundle does not verify the injector's certificate: %s", w.Name, err))
		}
	}
	if len(problems) > 0 {
		return failures(problems, "")
	}
	return validity("the injector's certificate", chain[0], e.Time())
}
