package cluster

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/tulle-mesh/tulle/test/cluster/spec"
)

// kubeletAdmins is the group that the API server's client certificate for kubelets carries; manifests
// give it its rights.
const kubeletAdmins = "tulle:kubelet-admins"

const (
	kube      = "/run/tulle/bin/kube"
	cniConfig = "/run/tulle/cni"
)

// both joins what a value is in each family.
func (i instance) both(value func(addresses) string) string {
	var values []string
	for _, a := range i.families() {
		values = append(values, value(a))
	}
	return strings.Join(values, ",")
}

// daemons says what the n-th node runs, and with which files.
func (i instance) daemons(n int, s *spec.Node) {
	name, p := nodeName(n), i.pki()
	s.Files = map[string]string{
		"tulle/containerd.toml":       containerdConfig,
		"tulle/cni/10-tulle.conflist": i.cni(n),
		"tulle/kubelet.yaml":          i.kubelet(n),
		"tulle/kube-proxy.yaml":       i.kubeProxy(n),
		"tulle/resolv.conf":           "",
	}
	s.First = []spec.Daemon{{Name: "containerd", Args: []string{"containerd", "--config", "/run/tulle/containerd.toml"}}}
	if n == 1 {
		s.First = append(s.First, i.etcd(), i.apiserver())
		s.Then = append(s.Then, i.controllerManager(), i.scheduler())
	}
	s.Then = append(s.Then,
		spec.Daemon{Name: "kubelet", Args: []string{
			kube, "kubelet", "--config=/run/tulle/kubelet.yaml", "--kubeconfig=" + filepath.Join(p, "kubelet-"+name+".kubeconfig"),
			"--hostname-override=" + name, "--node-ip=" + i.both(func(a addresses) string { return a.node(n).String() }),
			// Zones let topology be tested: each node is one.
			"--node-labels=topology.kubernetes.io/region=tulle,topology.kubernetes.io/zone=zone-" + fmt.Sprint(n),
		}},
		spec.Daemon{Name: "kube-proxy", Args: []string{kube, "kube-proxy", "--config=/run/tulle/kube-proxy.yaml"}})
}

// etcd does not sync to the disk: a cluster that dies with its machine is not missed.
func (i instance) etcd() spec.Daemon {
	p := i.pki()
	return spec.Daemon{Name: "etcd", Args: []string{
		kube, "etcd", "--name=n1", "--data-dir=/var/lib/etcd", "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls=https://127.0.0.1:2379", "--advertise-client-urls=https://127.0.0.1:2379",
		"--listen-peer-urls=http://127.0.0.1:2380", "--initial-advertise-peer-urls=http://127.0.0.1:2380",
		"--initial-cluster=n1=http://127.0.0.1:2380", "--client-cert-auth", "--trusted-ca-file=" + p + "/etcd-ca.crt",
		"--cert-file=" + p + "/etcd.crt", "--key-file=" + p + "/etcd.key",
	}}
}

func (i instance) apiserver() spec.Daemon {
	p := i.pki()
	return spec.Daemon{Name: "kube-apiserver", Args: []string{
		kube, "kube-apiserver", "--secure-port=6443", "--allow-privileged=true", "--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--advertise-address=" + i.v4().node(1).String(),
		"--service-cluster-ip-range=" + i.both(func(a addresses) string { return a.services.String() }),
		"--etcd-servers=https://127.0.0.1:2379", "--etcd-cafile=" + p + "/etcd-ca.crt",
		"--etcd-certfile=" + p + "/apiserver-etcd-client.crt", "--etcd-keyfile=" + p + "/apiserver-etcd-client.key",
		"--client-ca-file=" + p + "/ca.crt",
		"--tls-cert-file=" + p + "/apiserver.crt", "--tls-private-key-file=" + p + "/apiserver.key",
		"--kubelet-certificate-authority=" + p + "/ca.crt", "--kubelet-preferred-address-types=InternalIP",
		"--kubelet-client-certificate=" + p + "/apiserver-kubelet-client.crt",
		"--kubelet-client-key=" + p + "/apiserver-kubelet-client.key",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + p + "/sa.pub", "--service-account-signing-key-file=" + p + "/sa.key",
		"--requestheader-client-ca-file=" + p + "/front-proxy-ca.crt", "--requestheader-allowed-names=front-proxy-client",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-username-headers=X-Remote-User",
		"--proxy-client-cert-file=" + p + "/front-proxy-client.crt", "--proxy-client-key-file=" + p + "/front-proxy-client.key",
	}}
}

// client are the flags of a control plane component that talks to the API server: alone, so without
// an election, and with more requests a second than a patient cluster allows itself.
func (i instance) client(name string, flags ...string) spec.Daemon {
	config := filepath.Join(i.pki(), name+".kubeconfig")
	return spec.Daemon{Name: name, Args: append([]string{
		kube, name, "--kubeconfig=" + config, "--authentication-kubeconfig=" + config, "--authorization-kubeconfig=" + config,
		"--leader-elect=false", "--kube-api-qps=500", "--kube-api-burst=1000", "--bind-address=127.0.0.1",
		"--tls-cert-file=" + i.pki() + "/" + name + ".crt", "--tls-private-key-file=" + i.pki() + "/" + name + ".key",
	}, flags...)}
}

func (i instance) controllerManager() spec.Daemon {
	p := i.pki()
	return i.client("kube-controller-manager",
		"--client-ca-file="+p+"/ca.crt", "--requestheader-client-ca-file="+p+"/front-proxy-ca.crt",
		"--root-ca-file="+p+"/ca.crt", "--cluster-signing-cert-file="+p+"/ca.crt", "--cluster-signing-key-file="+p+"/ca.key",
		"--service-account-private-key-file="+p+"/sa.key", "--use-service-account-credentials=true",
		// A killed node is noticed and its pods replaced within a test's patience.
		"--node-monitor-period=1s", "--node-monitor-grace-period=12s")
}

func (i instance) scheduler() spec.Daemon { return i.client("kube-scheduler") }

// containerdConfig: where CAP_SYS_RESOURCE is missing, runc could not lower a container's
// oom_score_adj below its own, hence restrict_oom_score_adj.
const containerdConfig = `version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
  address = "` + spec.ContainerdSocket + `"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "` + pauseImage + `"
  disable_apparmor = true
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "` + cniConfig + `"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
`

// object is JSON, which every reader of YAML accepts.
type object = map[string]any

func text(o object) string {
	b, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		panic("BUG: " + err.Error()) // plain maps and strings
	}
	return string(b)
}

func (i instance) cni(n int) string {
	var ranges [][]object
	var routes []object
	for _, a := range i.families() {
		ranges = append(ranges, []object{{"subnet": a.podsOf(n).String()}})
		all := "0.0.0.0/0"
		if a.v6 {
			all = "::/0"
		}
		routes = append(routes, object{"dst": all})
	}
	return text(object{"cniVersion": "1.0.0", "name": "tulle", "plugins": []object{
		{
			"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
			"ipam": object{"type": "host-local", "ranges": ranges, "routes": routes},
		},
		{"type": "portmap", "capabilities": object{"portMappings": true}},
	}})
}

func (i instance) kubelet(n int) string {
	server := filepath.Join(i.pki(), "kubelet-"+nodeName(n)+"-server")
	return text(object{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"authentication": object{
			"anonymous": object{"enabled": false},
			"webhook":   object{"enabled": true},
			"x509":      object{"clientCAFile": i.pki() + "/ca.crt"},
		},
		"authorization": object{"mode": "Webhook"},
		"tlsCertFile":   server + ".crt", "tlsPrivateKeyFile": server + ".key",
		"containerRuntimeEndpoint": "unix://" + spec.ContainerdSocket,
		"cgroupDriver":             "cgroupfs", "cgroupRoot": "/" + i.podCgroup(n), "failCgroupV1": false, "failSwapOn": false,
		"clusterDNS": []string{i.v4().service(10).String()}, "clusterDomain": "cluster.local", "resolvConf": "/run/tulle/resolv.conf",
		// The disk is the developer's: a full one must not evict what is tested.
		"evictionHard": object{
			"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%", "nodefs.inodesFree": "1%",
		},
		"imageGCHighThresholdPercent": 100,
		"containerLogMaxSize":         "1Gi", // tests take what pods say for evidence, whole
		"volumePluginDir":             "/var/lib/kubelet/volume-plugins",
		"serializeImagePulls":         false, "syncFrequency": "10s", "nodeStatusUpdateFrequency": "3s",
		"kubeAPIQPS": 500, "kubeAPIBurst": 1000,
	})
}

// kubeProxy: conntrack's limits are the machine's, and zero leaves them alone.
func (i instance) kubeProxy(n int) string {
	return text(object{
		"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
		"mode": "nftables", "hostnameOverride": nodeName(n),
		"clusterCIDR":      i.both(func(a addresses) string { return a.pods.String() }),
		"clientConnection": object{"kubeconfig": i.pki() + "/kube-proxy.kubeconfig"},
		"conntrack":        object{"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
		"nftables":         object{"minSyncPeriod": "100ms"},
	})
}
