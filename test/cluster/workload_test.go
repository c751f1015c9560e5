package cluster

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"testing"
)

// workloads are web, on both nodes and behind a Service of both families, and a client.
const workloads = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      topologySpreadConstraints:
        - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}}
      containers:
        - name: web
          image: tulle.test/tools:1
          args: [serve, ":8080"]
          readinessProbe: {periodSeconds: 1, httpGet: {path: /, port: 8080}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  ipFamilyPolicy: PreferDualStack
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  nodeName: n1
  terminationGracePeriodSeconds: 0
  containers:
    - name: client
      image: tulle.test/tools:1
      args: [sleep]
      volumeMounts: [{name: token, mountPath: /var/run/secrets/tulle.test}]
  volumes:
    - name: token
      projected:
        sources: [{serviceAccountToken: {path: token, audience: identity.tulle.dev, expirationSeconds: 600}}]
`

// sidecarJob ends only if its sidecar starts first and is stopped last.
const sidecarJob = `
apiVersion: batch/v1
kind: Job
metadata: {name: with-sidecar}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      initContainers:
        - name: sidecar
          image: tulle.test/tools:1
          args: [serve, "127.0.0.1:9000"]
          restartPolicy: Always
          startupProbe: {periodSeconds: 1, exec: {command: [/app, get, "http://127.0.0.1:9000/"]}}
      containers:
        - name: main
          image: tulle.test/tools:1
          args: [get, "http://127.0.0.1:9000/"]
`

// redirected sends whatever its containers dial, save user 2102's, to port 4140 of its own.
const redirected = `
apiVersion: v1
kind: Pod
metadata: {name: redirected}
spec:
  terminationGracePeriodSeconds: 0
  initContainers:
    - name: rules
      image: tulle.test/tools:1
      command: [sh, -c]
      args:
        - |
          nft -f - <<'RULES'
          table inet test {
            chain output {
              type nat hook output priority -100
              meta skuid 2102 accept
              oifname lo accept
              meta l4proto tcp redirect to :4140
            }
          }
          RULES
      securityContext: {capabilities: {drop: [ALL], add: [NET_ADMIN]}}
    - name: proxy
      image: tulle.test/tools:1
      args: [original, ":4140"]
      restartPolicy: Always
      securityContext: {runAsUser: 2102}
      startupProbe: {periodSeconds: 1, tcpSocket: {port: 4140}}
  containers:
    - name: client
      image: tulle.test/tools:1
      args: [sleep]
`

const webhookPods = `
apiVersion: v1
kind: Namespace
metadata: {name: reviewed, labels: {tulle.test/review: "yes"}}
---
apiVersion: v1
kind: Secret
metadata: {name: webhook}
type: kubernetes.io/tls
data: {tls.crt: CRT, tls.key: KEY}
---
apiVersion: v1
kind: Pod
metadata: {name: webhook, labels: {app: webhook}}
spec:
  nodeName: n2
  terminationGracePeriodSeconds: 0
  containers:
    - name: webhook
      image: tulle.test/tools:1
      args: [webhook, ":8443", /tls/tls.crt, /tls/tls.key]
      readinessProbe: {periodSeconds: 1, tcpSocket: {port: 8443}}
      volumeMounts: [{name: tls, mountPath: /tls}]
  volumes: [{name: tls, secret: {secretName: webhook}}]
---
apiVersion: v1
kind: Service
metadata: {name: webhook}
spec: {selector: {app: webhook}, ports: [{port: 443, targetPort: 8443}]}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: webhook}
webhooks:
  - name: webhook.tulle.test
    admissionReviewVersions: [v1]
    sideEffects: None
    failurePolicy: Fail
    timeoutSeconds: 5
    namespaceSelector: {matchLabels: {tulle.test/review: "yes"}}
    clientConfig: {caBundle: CRT, service: {name: webhook, namespace: default, path: /review}}
    rules: [{operations: [CREATE], apiGroups: [""], apiVersions: [v1], resources: [pods]}]
`

const reviewedPod = `
apiVersion: v1
kind: Pod
metadata: {name: pod, namespace: reviewed}
spec: {terminationGracePeriodSeconds: 0, containers: [{name: c, image: "tulle.test/tools:1", args: [sleep]}]}
`

func testWebhook(t *testing.T, b bed) {
	crt, key := selfSigned(t, "webhook.default.svc")
	b.apply(t, strings.NewReplacer("CRT", crt, "KEY", key).Replace(webhookPods))
	b.rollout(t, "pod/webhook")
	// The Service's rules and the namespace's account follow a moment later.
	eventually(t, b.applies(reviewedPod))
	got := b.kubectl(t, "get", "pod", "pod", "--namespace=reviewed", "-o", `jsonpath={.metadata.annotations.tulle\.test/reviewed}`)
	if got != "yes" {
		t.Errorf("the webhook's annotation is %q", got)
	}
	b.kubectl(t, "delete", "mutatingwebhookconfiguration/webhook", "namespace/reviewed", "--wait=false")
}

// selfSigned returns a certificate and its key, encoded as a Secret holds them.
func selfSigned(t *testing.T, name string) (crt, key string) {
	t.Helper()
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := template(subject(name))
	c.DNSNames, c.IsCA = []string{name}, true
	der, err := x509.CreateCertificate(rand.Reader, c, c, signer.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, der []byte) string {
		return base64.StdEncoding.EncodeToString(bytes.TrimSpace(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
	}
	return encode("CERTIFICATE", der), encode("PRIVATE KEY", private)
}
