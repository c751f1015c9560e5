package diagnostics

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/tulle-mesh/tulle/cli/cluster"
	"github.com/tulle-mesh/tulle/cli/console"
	"github.com/tulle-mesh/tulle/cli/mesh"
	"github.com/tulle-mesh/tulle/internal/version"
)

// What is taken of logs.
const (
	logLines = 5000
	logBytes = 8 << 20
)

func newBundle(a *cluster.Access, con *console.Console) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "bundle",
		Short: "Write one redacted archive for a bug report",
		Long: "bundle collects the control plane's objects, logs, metrics and state, and, where -n says so, what the proxies of\n" +
			"that namespace say. Contents of Secrets, tokens, keys, passwords, query strings and the values of applications'\n" +
			"environments are taken out; names, addresses and labels stay. Look through it before you send it.",
		Example: "  tulle diagnostics bundle\n" +
			"  tulle diagnostics bundle -n shop --file report.tar.gz\n" +
			"  tulle diagnostics bundle --file - | tar tz",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			k, err := a.Cluster()
			if err != nil {
				return err
			}
			if file == "" {
				file = "tulle-bundle-" + k.Time().UTC().Format("20060102-150405") + ".tar.gz"
			}
			b := &bundle{k: k, con: con, shop: a.Namespace, at: k.Time()}
			return b.write(c.Context(), file)
		},
	}
	c.Flags().StringVar(&file, "file", "", "where to write it; - for the output (default tulle-bundle-TIME.tar.gz)")
	return c
}

// bundle is an archive in the making. What cannot be had is noted in it and hinders nothing.
type bundle struct {
	k    *cluster.Cluster
	con  *console.Console
	shop string // the namespace whose proxies are asked; empty: none
	at   time.Time

	tar    *tar.Writer
	failed []string
	err    error // of writing
}

func (b *bundle) write(ctx context.Context, file string) (err error) {
	out := b.con.Out
	if file != "-" {
		f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		out = f
	}
	zip := gzip.NewWriter(out)
	b.tar = tar.NewWriter(zip)
	b.collect(ctx)
	if err := errors.Join(ctx.Err(), b.err, b.tar.Close(), zip.Close()); err != nil {
		return err
	}
	for _, f := range b.failed {
		fmt.Fprintf(b.con.Err, "%s not in it: %s\n", b.con.PaintErr(console.Doubt, "!"), console.Clean(f))
	}
	if file != "-" {
		fmt.Fprintf(b.con.Err, "%s wrote %s; look through it before you send it\n", b.con.PaintErr(console.Good, "✓"), file)
	}
	return nil
}

// add writes a file into the archive.
func (b *bundle) add(name string, content []byte, err error) {
	if err != nil {
		b.failed = append(b.failed, name+": "+err.Error())
		if len(content) == 0 {
			return
		}
	}
	if b.err != nil {
		return
	}
	h := &tar.Header{Name: path.Join("tulle-bundle", name), Mode: 0o600, Size: int64(len(content)), ModTime: b.at, Format: tar.FormatPAX}
	if b.err = b.tar.WriteHeader(h); b.err == nil {
		_, b.err = b.tar.Write(content)
	}
}

func (b *bundle) collect(ctx context.Context) {
	b.add("version.txt", []byte("tulle "+version.String()+"\n"), nil)
	v, err := b.k.Kube.Discovery().ServerVersion()
	b.addJSON("kubernetes.json", v, err)
	for _, gvr := range clusterWide {
		b.objects(ctx, path.Join("cluster", gvr.Resource+".yaml"), gvr, "")
	}
	for _, gvr := range namespaced {
		b.objects(ctx, path.Join(b.k.Tulle, gvr.Resource+".yaml"), gvr, b.k.Tulle)
		if b.shop != "" && b.shop != b.k.Tulle {
			b.objects(ctx, path.Join(b.shop, gvr.Resource+".yaml"), gvr, b.shop)
		}
	}
	pods, err := mesh.ControlPods(ctx, b.k, "")
	b.note("pods of the control plane", err)
	for i := range pods {
		paths := []string{"/ready", "/metrics"}
		if mesh.DeploymentOf(&pods[i]) == mesh.Destination {
			paths = append(paths, "/debug/state", "/debug/streams", "/debug/reports")
		}
		b.pod(ctx, &pods[i], pods[i].Spec.Containers[0].Name, mesh.ControllerAdmin, paths)
	}
	if b.shop != "" {
		pods, err := mesh.Pods(ctx, b.k, b.shop)
		b.note("meshed pods", err)
		for i := range pods {
			b.pod(ctx, &pods[i], mesh.Proxy, mesh.ProxyAdmin, []string{"/ready", "/metrics", "/debug/identity", "/debug/targets", "/debug/endpoints", "/debug/policies"})
			b.log(ctx, &pods[i], mesh.Init, false)
		}
	}
	var failed bytes.Buffer
	for _, f := range b.failed {
		fmt.Fprintln(&failed, redactText(f))
	}
	b.add("missing.txt", failed.Bytes(), nil)
}

func (b *bundle) note(what string, err error) {
	if err != nil {
		b.failed = append(b.failed, what+": "+err.Error())
	}
}

func (b *bundle) addJSON(name string, v any, err error) {
	if err != nil {
		b.note(name, err)
		return
	}
	raw, err := json.MarshalIndent(v, "", "  ")
	b.add(name, raw, err)
}

var (
	clusterWide = []schema.GroupVersionResource{
		{Version: "v1", Resource: "nodes"},
		{Version: "v1", Resource: "namespaces"},
		{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "mutatingwebhookconfigurations"},
	}
	namespaced = []schema.GroupVersionResource{
		{Version: "v1", Resource: "pods"},
		{Version: "v1", Resource: "services"},
		{Version: "v1", Resource: "configmaps"},
		{Version: "v1", Resource: "secrets"},
		{Version: "v1", Resource: "events"},
		{Group: "apps", Version: "v1", Resource: "deployments"},
		{Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"},
		{Group: "networking.k8s.io", Version: "v1", Resource: "networkpolicies"},
		{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"},
		{Group: "policy.tulle.dev", Version: "v1alpha1", Resource: "externalworkloads"},
	}
)

// isOurs limits what is read of other people's namespaces: their ConfigMaps and Secrets are their own.
func (b *bundle) isOurs(o *unstructured.Unstructured) bool {
	if o.GetNamespace() == b.k.Tulle || o.GetNamespace() == "" {
		return true
	}
	return o.GetKind() != "Secret" && (o.GetKind() != "ConfigMap" || o.GetName() == mesh.Bundle)
}

func (b *bundle) objects(ctx context.Context, name string, gvr schema.GroupVersionResource, namespace string) {
	var out bytes.Buffer
	l, err := b.k.Dynamic.Resource(gvr).Namespace(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		b.note(name, err)
		return
	}
	for i := range l.Items {
		o := &l.Items[i]
		if !b.isOurs(o) {
			continue
		}
		redactObject(o)
		text, err := yaml.Marshal(o.Object)
		if err != nil {
			b.note(name, err)
			continue
		}
		fmt.Fprintf(&out, "---\n%s", text)
	}
	b.add(name, out.Bytes(), nil)
}

// pod adds a pod's logs and what its admin port says.
func (b *bundle) pod(ctx context.Context, p *corev1.Pod, container string, port int, paths []string) {
	b.log(ctx, p, container, false)
	if s := statusOf(p, container); s != nil && s.RestartCount > 0 {
		b.log(ctx, p, container, true)
	}
	for _, at := range paths {
		raw, err := b.k.Get(ctx, cluster.Ask{Namespace: p.Namespace, Pod: p.Name, Port: port, Path: at})
		if at != "/metrics" { // whose labels are few and known (R12.2)
			raw = redactJSON(raw)
		}
		b.add(path.Join(p.Namespace, "pods", p.Name, path.Base(at)+".txt"), raw, err)
	}
}

func statusOf(p *corev1.Pod, container string) *corev1.ContainerStatus {
	for _, all := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for i := range all {
			if all[i].Name == container {
				return &all[i]
			}
		}
	}
	return nil
}

func (b *bundle) log(ctx context.Context, p *corev1.Pod, container string, previous bool) {
	lines, most := int64(logLines), int64(logBytes)
	name := container + ".log"
	if previous {
		name = container + ".previous.log"
	}
	name = path.Join(p.Namespace, "pods", p.Name, name)
	r, err := b.k.Kube.CoreV1().Pods(p.Namespace).GetLogs(p.Name, &corev1.PodLogOptions{
		Container: container, Previous: previous, TailLines: &lines, LimitBytes: &most, Timestamps: true,
	}).Stream(ctx)
	if err != nil {
		b.note(name, err)
		return
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	b.add(name, []byte(redactText(string(text))), err)
}
