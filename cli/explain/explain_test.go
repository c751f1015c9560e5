package explain

import (
	"bytes"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/tulle-mesh/tulle/cli/cluster"
	"github.com/tulle-mesh/tulle/cli/console"
	"github.com/tulle-mesh/tulle/cli/exit"
	"github.com/tulle-mesh/tulle/cli/mesh"
	"github.com/tulle-mesh/tulle/internal/run"
)

// output is what tulle explain says of one of objects.
func output(t *testing.T, objects []runtime.Object, args ...string) (string, error) {
	t.Helper()
	k := &cluster.Cluster{Kube: fake.NewClientset(objects...), Namespace: "shop", Tulle: "tulle"}
	var out bytes.Buffer
	cmd := New(cluster.NewAccess(func(cluster.Flags) (*cluster.Cluster, error) { return k, nil }),
		console.New(run.Streams{Out: &out, Err: &out}, func(string) string { return "" }))
	cmd.SetArgs(args)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func objects(namespace, pod map[string]string, change func(*corev1.Pod)) []runtime.Object {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-1", Annotations: pod},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "web"}}},
	}
	if change != nil {
		change(p)
	}
	return []runtime.Object{
		p, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Annotations: namespace}},
		&corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: "tulle", Name: mesh.Config},
			Data:       map[string]string{mesh.ConfigKey: "proxy: {logFormat: plain}"},
		},
	}
}

func TestEverySettingSaysWhereItCameFrom(t *testing.T) {
	out, err := output(t, objects(
		map[string]string{"tulle.dev/inject": "enabled", "config.tulle.dev/log-level": "warn", "config.tulle.dev/workers": "2"},
		map[string]string{"config.tulle.dev/log-level": "debug"}, nil,
	), "web-1", "--set-only")
	want := `pod shop/web-1: it has no proxy, and a new pod like it gets one: it was created before that was asked for, or while the injector was away

SETTING      VALUE   FROM
workers      2       namespace shop
log-level    debug   pod shop/web-1
log-format   plain   ConfigMap tulle/tulle-config
`
	if err != nil || out != want {
		t.Errorf("%v: got\n%s\nwant\n%s", err, out, want)
	}
}

func TestWhyAPodHasNoProxy(t *testing.T) {
	on := map[string]string{"tulle.dev/inject": "enabled"}
	for _, c := range []struct {
		name           string
		namespace, pod map[string]string
		change         func(*corev1.Pod)
		want           string
	}{
		{"nobody asks", nil, nil, nil, "it has no proxy: neither the pod nor its namespace has tulle.dev/inject: enabled"},
		{"it does not want one", on, map[string]string{"tulle.dev/inject": "disabled"}, nil, "tulle.dev/inject is disabled by annotation of pod shop/web-1"},
		{"the node's network", on, nil, func(p *corev1.Pod) { p.Spec.HostNetwork = true }, "it has no proxy: it uses the node's network"},
	} {
		out, err := output(t, objects(c.namespace, c.pod, c.change), "web-1")
		if err != nil || !strings.Contains(out, c.want) {
			t.Errorf("%s: %v\n%s", c.name, err, out)
		}
	}
	_, err := output(t, objects(on, map[string]string{"config.tulle.dev/log-level": "loud"}, nil), "web-1")
	if err == nil || !strings.Contains(err.Error(), `annotation config.tulle.dev/log-level="loud": want debug`) {
		t.Errorf("a value that cannot be: %v", err)
	}
}

func TestWhatAServicePortIsTakenToSpeak(t *testing.T) { // R2.4
	grpc, odd := "grpc", "gopher"
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "many", Annotations: map[string]string{"config.tulle.dev/opaque-ports": "7000"}},
		Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{
			{Name: "a", Port: 7000}, {Name: "b", Port: 80, AppProtocol: &grpc}, {Name: "c", Port: 5432}, {Name: "d", Port: 8080},
			{Name: "mysql-x", Port: 13306}, {Name: "e", Port: 53, Protocol: corev1.ProtocolUDP}, {Name: "f", Port: 70, AppProtocol: &odd},
		}},
	}
	out, err := output(t, append(objects(nil, nil, nil), svc), "svc/many")
	want := []string{
		`! spec.ports[6].appProtocol: "gopher" is not a protocol that Tulle knows: the port's protocol is detected`,
		"7000    a         opaque   annotation config.tulle.dev/opaque-ports of the service",
		"80      b         grpc     appProtocol: grpc",
		"5432    c         opaque   the default opaque ports",
		"8080    d         detect   nothing says it: each connection is looked at",
		"13306   mysql-x   opaque   the port's name, mysql-x",
		"53      e         UDP      it is passed by, not meshed",
		"70      f         detect   nothing says it",
	}
	for _, line := range want {
		if !strings.Contains(out, line) {
			t.Errorf("%v: %q is missing:\n%s", err, line, out)
		}
	}
}

func TestWhatIsMissingIsSaid(t *testing.T) {
	for _, c := range []struct {
		arg, want string
		code      int
	}{
		{"nobody", "there is no pod/nobody in namespace shop", exit.Failed},
		{"gateway/x", `there is no kind "gateway" here`, exit.Usage},
		{"deploy/x", "there is no deployment/x in namespace shop", exit.Failed},
		{"svc/x", `services "x" not found`, exit.Failed},
	} {
		_, err := output(t, objects(nil, nil, nil), c.arg)
		if exit.Code(err) != c.code || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v (%d), want %s (%d)", c.arg, err, exit.Code(err), c.want, c.code)
		}
	}
	_, err := output(t, nil, "web-1")
	if exit.Code(err) != exit.Refused {
		t.Errorf("without a control plane: %v", err)
	}
}
