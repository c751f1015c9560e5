package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// authority signs the certificates of one purpose; a throw-away cluster has three.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

// leaf is a certificate to be made.
type leaf struct {
	file    string
	subject pkix.Name
	names   []string
	ips     []net.IP
}

// pki writes certificates, keys and kubeconfigs below dir, as FILE.crt, FILE.key and FILE.kubeconfig.
type pki struct {
	dir    string
	server string // the API server's URL
	err    error
}

func subject(name string, groups ...string) pkix.Name {
	return pkix.Name{CommonName: name, Organization: groups}
}

// makePKI makes what the control plane and n nodes identify themselves with.
func makePKI(i instance, nodes int) error {
	p := &pki{dir: i.pki(), server: i.server()}
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		return err
	}
	ca, front, etcd := p.authority("ca"), p.authority("front-proxy-ca"), p.authority("etcd-ca")
	if p.err != nil {
		return p.err
	}
	local := []net.IP{net.IPv4(127, 0, 0, 1)}
	apiIPs := local
	for _, a := range i.families() {
		apiIPs = append(apiIPs, a.service(1).AsSlice(), a.node(1).AsSlice())
	}
	p.leaf(ca, leaf{file: "apiserver", subject: subject("kube-apiserver"), ips: apiIPs, names: []string{
		"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
	}})
	p.leaf(ca, leaf{file: "apiserver-kubelet-client", subject: subject("kube-apiserver-kubelet-client", kubeletAdmins)})
	p.leaf(front, leaf{file: "front-proxy-client", subject: subject("front-proxy-client")})
	p.leaf(etcd, leaf{file: "etcd", subject: subject("etcd"), names: []string{"localhost"}, ips: local})
	p.leaf(etcd, leaf{file: "apiserver-etcd-client", subject: subject("kube-apiserver-etcd-client")})
	clients := []leaf{
		{file: "admin", subject: subject("kubernetes-admin", "system:masters")},
		{file: "kube-controller-manager", subject: subject("system:kube-controller-manager"), ips: local},
		{file: "kube-scheduler", subject: subject("system:kube-scheduler"), ips: local},
		{file: "kube-proxy", subject: subject("system:kube-proxy")},
	}
	for n := 1; n <= nodes; n++ {
		name := nodeName(n)
		clients = append(clients, leaf{file: "kubelet-" + name, subject: subject("system:node:"+name, "system:nodes")})
		server := leaf{file: "kubelet-" + name + "-server", subject: subject(name), names: []string{name}}
		for _, a := range i.families() {
			server.ips = append(server.ips, a.node(n).AsSlice())
		}
		p.leaf(ca, server)
	}
	for _, c := range clients {
		p.kubeconfig(ca, c)
	}
	p.tokens()
	return p.err
}

func (i instance) server() string { return "https://" + i.v4().node(1).String() + ":6443" }

func (p *pki) write(name, kind string, der []byte) []byte {
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	if p.err == nil {
		p.err = os.WriteFile(filepath.Join(p.dir, name), text, 0o600)
	}
	return text
}

func (p *pki) key(file string) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.err = err
		return nil
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		p.err = err
	}
	p.write(file+".key", "PRIVATE KEY", der)
	return key
}

// template is valid for longer than any test bed lives, and from before it on a machine whose clock
// is set right while it runs.
func template(name pkix.Name) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic("BUG: " + err.Error()) // crypto/rand does not fail
	}
	return &x509.Certificate{
		SerialNumber: serial, Subject: name, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
}

func (p *pki) authority(file string) *authority {
	key := p.key(file)
	t := template(subject(file))
	t.IsCA, t.KeyUsage = true, t.KeyUsage|x509.KeyUsageCertSign
	if p.err != nil {
		return nil
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		p.err = err
		return nil
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		p.err = err
	}
	return &authority{cert, key, p.write(file+".crt", "CERTIFICATE", der)}
}

func (p *pki) leaf(by *authority, l leaf) (cert []byte) {
	key := p.key(l.file)
	if p.err != nil {
		return nil
	}
	t := template(l.subject)
	t.DNSNames, t.IPAddresses = l.names, l.ips
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	der, err := x509.CreateCertificate(rand.Reader, t, by.cert, key.Public(), by.key)
	if err != nil {
		p.err = err
		return nil
	}
	return p.write(l.file+".crt", "CERTIFICATE", der)
}

// kubeconfig makes a client's certificate and the file with which it finds the API server. JSON is
// YAML too.
func (p *pki) kubeconfig(by *authority, l leaf) {
	cert := p.leaf(by, l)
	if p.err != nil {
		return
	}
	key, err := os.ReadFile(filepath.Join(p.dir, l.file+".key"))
	if err != nil {
		p.err = err
		return
	}
	b64 := base64.StdEncoding.EncodeToString
	type m = map[string]any
	text, err := json.MarshalIndent(m{
		"apiVersion": "v1", "kind": "Config", "current-context": "tulle",
		"clusters": []m{{"name": "tulle", "cluster": m{"server": p.server, "certificate-authority-data": b64(by.pem)}}},
		"users":    []m{{"name": l.subject.CommonName, "user": m{"client-certificate-data": b64(cert), "client-key-data": b64(key)}}},
		"contexts": []m{{"name": "tulle", "context": m{"cluster": "tulle", "user": l.subject.CommonName}}},
	}, "", "  ")
	if err != nil {
		p.err = err
		return
	}
	p.err = os.WriteFile(filepath.Join(p.dir, l.file+".kubeconfig"), text, 0o600)
}

// tokens makes the key pair that service account tokens are signed with.
func (p *pki) tokens() {
	key := p.key("sa")
	if p.err != nil {
		return
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		p.err = err
		return
	}
	p.write("sa.pub", "PUBLIC KEY", der)
}
