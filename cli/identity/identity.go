// Package identity is tulle identity: the certificates that pods' proxies present.
package identity

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tulle-mesh/tulle/cli/cluster"
	"github.com/tulle-mesh/tulle/cli/console"
	"github.com/tulle-mesh/tulle/cli/exit"
	"github.com/tulle-mesh/tulle/cli/mesh"
	"github.com/tulle-mesh/tulle/internal/run"
)

// pemFormat is -o pem, the chains alone.
const pemFormat console.Format = "pem"

type options struct {
	*cluster.Access
	con *console.Console

	selector string
	format   console.Format
}

// New makes the command.
func New(a *cluster.Access, con *console.Console) *cobra.Command {
	o := &options{Access: a, con: con}
	c := &cobra.Command{
		Use:   "identity [POD|KIND/NAME]...",
		Short: "Show the certificates of pods' proxies, and whether the mesh accepts them",
		Long: "identity asks each proxy for the certificate that it presents now, and verifies it with the trust bundle of\n" +
			"its namespace, as a peer would. Without names it asks every proxy of -n.",
		Example: "  tulle identity web-1 -n shop\n" +
			"  tulle identity deploy/web -n shop -o wide\n" +
			"  tulle identity -n shop -l app=web -o json\n" +
			"  tulle identity web-1 -n shop -o pem | openssl x509 -noout -text",
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: a.Pods(),
		RunE:              func(c *cobra.Command, args []string) error { return o.run(c.Context(), args) },
	}
	c.Flags().StringVarP(&o.selector, "selector", "l", "", "labels of the pods, without names")
	console.Flag(c, &o.format, console.Table, console.Wide, console.JSON, console.YAML, pemFormat)
	return c
}

// report is one proxy's certificate.
type report struct {
	Pod          string    `json:"pod"`
	Identity     string    `json:"identity,omitempty"`
	Issuer       string    `json:"issuer,omitempty"`
	Serial       string    `json:"serial,omitempty"`
	NotBefore    time.Time `json:"notBefore,omitzero"`
	NotAfter     time.Time `json:"notAfter,omitzero"`
	NextRenewal  time.Time `json:"nextRenewal,omitzero"`
	TrustVersion uint64    `json:"trustVersion,omitempty"`
	// Trusted says whether the trust bundle of the namespace verifies it.
	Trusted bool `json:"trusted"`
	// Problem is why it is not, or why there is none.
	Problem string `json:"problem,omitempty"`
	Chain   string `json:"chain,omitempty"`
}

func (o *options) run(ctx context.Context, args []string) error {
	k, err := o.Cluster()
	if err != nil {
		return err
	}
	pods, err := mesh.Select(ctx, k, args, o.selector)
	if err != nil {
		return err
	}
	if pods, err = mesh.WithProxy(k, pods); err != nil {
		return err
	}
	reports, bad := make([]report, len(pods)), 0
	for i := range pods {
		reports[i] = ask(ctx, k, &pods[i])
		if reports[i].Problem != "" {
			bad++
		}
	}
	if o.format == pemFormat {
		for _, r := range reports {
			fmt.Fprint(o.con.Out, r.Chain)
		}
	} else if err := o.con.Write(o.format, reports, func(w io.Writer) error { return o.table(w, k, reports) }); err != nil {
		return err
	}
	if bad > 0 {
		return &run.ExitError{Code: exit.Failed, Err: fmt.Errorf("%d of %d proxies have no certificate that the mesh accepts", bad, len(reports))}
	}
	return nil
}

func ask(ctx context.Context, k *cluster.Cluster, p *corev1.Pod) report {
	r := report{Pod: p.Namespace + "/" + p.Name}
	raw, err := k.Get(ctx, cluster.Ask{Namespace: p.Namespace, Pod: p.Name, Port: mesh.ProxyAdmin, Path: "/debug/identity"})
	if err == nil {
		err = json.Unmarshal(raw, &r)
	}
	if err == nil {
		err = r.verify(ctx, k, p.Namespace)
	}
	if err != nil {
		r.Problem = err.Error()
	}
	r.Trusted = err == nil
	return r
}

// verify does what a peer does (R5.2), with the bundle that peers in the namespace start from.
func (r *report) verify(ctx context.Context, k *cluster.Cluster, namespace string) error {
	leaf, between, err := parse([]byte(r.Chain))
	if err != nil {
		return err
	}
	r.Issuer, r.Serial = leaf.Issuer.String(), leaf.SerialNumber.Text(16)
	cm, err := k.Kube.CoreV1().ConfigMaps(namespace).Get(ctx, mesh.Bundle, metav1.GetOptions{})
	if err != nil {
		return k.Explain("get the trust bundle of namespace "+namespace, err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(cm.Data[mesh.BundleKey])) {
		return fmt.Errorf("the trust bundle of namespace %s holds no certificate", namespace)
	}
	_, err = leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: k.Time(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return err
	}
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != r.Identity {
		return fmt.Errorf("the certificate is not one for %s alone", r.Identity)
	}
	return nil
}

func parse(chain []byte) (leaf *x509.Certificate, between *x509.CertPool, err error) {
	between = x509.NewCertPool()
	for {
		var block *pem.Block
		if block, chain = pem.Decode(chain); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, nil, err
		}
		if leaf == nil {
			leaf = c
		} else {
			between.AddCert(c)
		}
	}
	if leaf == nil {
		return nil, nil, errors.New("the proxy has no certificate yet")
	}
	return leaf, between, nil
}

func (o *options) table(w io.Writer, k *cluster.Cluster, reports []report) error {
	head := []string{"POD", "IDENTITY", "EXPIRES", "TRUSTED"}
	if o.format == console.Wide {
		head = append(head, "RENEWS", "BUNDLE", "ISSUER", "SERIAL")
	}
	rows := [][]string{head}
	now := k.Time()
	for _, r := range reports {
		trusted := "yes"
		if r.Problem != "" {
			trusted = "no: " + r.Problem
		}
		row := []string{r.Pod, r.Identity, in(r.NotAfter, now), trusted}
		if o.format == console.Wide {
			row = append(row, in(r.NextRenewal, now), fmt.Sprint(r.TrustVersion), r.Issuer, r.Serial)
		}
		rows = append(rows, row)
	}
	return console.Rows(w, rows)
}

func in(t, now time.Time) string {
	switch {
	case t.IsZero():
		return "-"
	case t.Before(now):
		return now.Sub(t).Round(time.Second).String() + " ago"
	}
	return "in " + t.Sub(now).Round(time.Minute).String()
}
