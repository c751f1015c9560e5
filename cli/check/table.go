package check

import "github.com/tulle-mesh/tulle/cli/mesh"

// Groups, in the order in which they are shown.
const (
	groupKubernetes   = "kubernetes"
	groupBefore       = "before installing"
	groupInstallation = "installation"
	groupCertificates = "certificates"
	groupInjection    = "injection"
	groupNetwork      = "network"
	groupProxies      = "proxies"
)

// Table lists every check in the order in which they are made.
func Table() []Check {
	return []Check{
		{Group: groupKubernetes, Name: "the API server answers", Anchor: "api", Modes: Before | After, Fatal: true, Run: apiAnswers,
			Hint: "kubectl config current-context; kubectl get --raw /readyz"},
		{Group: groupKubernetes, Name: "the version of Kubernetes is supported", Anchor: "kubernetes-version", Modes: Before | After, Run: kubernetesVersion,
			Hint: "upgrade the cluster; from 1.29 on proxies are native sidecars"},
		{Group: groupKubernetes, Name: "the clocks agree", Anchor: "clock", Modes: Before | After, Run: clocks,
			Hint: "run a time service (chrony, systemd-timesyncd) on the machine that is named"},

		{Group: groupBefore, Name: "nothing is installed yet", Anchor: "already-installed", Modes: Before, Run: nothingInstalled,
			Hint: "tulle upgrade for what is there; tulle uninstall | kubectl delete -f - for remains"},
		{Group: groupBefore, Name: "you may create what is installed", Anchor: "permissions", Modes: Before, Run: permissions,
			Hint: "have somebody with the rights install, or be given them; --as asks as somebody else"},
		{Group: groupBefore, Name: "the nodes have room", Anchor: "capacity", Modes: Before, Run: capacity,
			Hint: "add a node, or install with --profile dev, or set smaller requests with --set destination.resources.requests.memory=32Mi"},
		{Group: groupBefore, Name: "the nodes' kernels have nf_tables", Anchor: "kernel", Modes: Before, Run: kernels,
			Hint: "keep meshed pods off the nodes that are named (nodeSelector), or upgrade their kernel"},
		{Group: groupBefore, Name: "quotas leave room", Anchor: "quota", Modes: Before, Run: quotas,
			Hint: "raise the quota, or install into another namespace with -L"},

		{Group: groupInstallation, Name: "the namespace exists", Anchor: "namespace", Modes: After, Fatal: true, Run: namespaceExists,
			Hint: "tulle install | kubectl apply -f -, or -L with the namespace that it is in"},
		{Group: groupInstallation, Name: "the configuration can be read", Anchor: "config", Modes: After, Fatal: true, Run: configReadable,
			Hint: "tulle install | kubectl apply -f -, with the flags that it was installed with; or -L with the namespace that it is in"},
		{Group: groupInstallation, Name: "the definitions are there", Anchor: "crds", Modes: After, Waits: true, Run: definitions,
			Hint: "tulle install --crds | kubectl apply -f -"},
		{Group: groupInstallation, Name: "no object is missing", Anchor: "objects", Modes: After, Run: objects,
			Hint: "tulle upgrade | kubectl apply -f -"},
		{Group: groupInstallation, Name: "the control plane is ready", Anchor: "control-plane", Modes: After, Waits: true, Run: controlPlane,
			Hint: "kubectl -n NAMESPACE describe pod POD; kubectl -n NAMESPACE logs deploy/DEPLOYMENT"},
		{Group: groupInstallation, Name: "its Services lead to pods", Anchor: "services", Modes: After, Waits: true, Run: services,
			Hint: "kubectl -n NAMESPACE get endpointslices"},
		{Group: groupInstallation, Name: "replicas stand on different nodes", Anchor: "replicas", Modes: After, Run: replicas,
			Hint: "add nodes, or delete one of the pods to have it placed anew"},
		{Group: groupInstallation, Name: "the versions agree", Anchor: "version", Modes: After, Run: versions,
			Hint: "use the tulle of the control plane's version, or tulle upgrade | kubectl apply -f -"},

		{Group: groupCertificates, Name: "the root is valid", Anchor: "root", Keeper: mesh.Identity, Modes: After, Waits: true, Run: rootValid,
			Hint: "kubectl -n NAMESPACE logs deploy/tulle-identity says why it was not renewed; docs/controller.md says how that is asked for"},
		{Group: groupCertificates, Name: "the issuer is valid and of the root", Anchor: "issuer", Keeper: mesh.Identity, Modes: After, Waits: true, Run: issuerValid,
			Hint: "kubectl -n NAMESPACE logs deploy/tulle-identity says why it was not renewed"},
		{Group: groupCertificates, Name: "the trust bundle is where proxies look", Anchor: "trust-bundle", Keeper: mesh.Identity, Modes: After, Waits: true, Run: bundles,
			Hint: "kubectl -n NAMESPACE logs deploy/tulle-identity, which writes the bundles; " + upgrade + " gives it back its rights"},
		{Group: groupCertificates, Name: "the webhook's certificate is one that the API server accepts", Anchor: "webhook-certificate", Keeper: mesh.Injector, Modes: After, Waits: true, Run: webhookCertificate,
			Hint: "kubectl -n NAMESPACE logs deploy/tulle-injector says why it is not; " + upgrade + " gives it back its rights"},

		{Group: groupInjection, Name: "a pod that asks for a proxy gets one", Anchor: "webhook", Keeper: mesh.Injector, Modes: After, Waits: true, Run: webhookReached,
			Hint: "kubectl -n NAMESPACE logs deploy/tulle-injector; a firewall between the API server and port 8443 of the pods is the usual cause"},
		{Group: groupInjection, Name: "settings in annotations are understood", Anchor: "annotations", Modes: After, Run: annotations,
			Hint: "docs/injection.md lists every setting and its values"},
		{Group: groupInjection, Name: "namespaces that ask for proxies are labelled", Anchor: "namespace-labels", Keeper: mesh.Injector, Modes: After, Waits: true, Run: namespaceLabels,
			Hint: "kubectl -n NAMESPACE logs deploy/tulle-injector; until then the failure policy does not hold there"},
		{Group: groupInjection, Name: "pods that should have a proxy have one", Anchor: "unmeshed", Modes: After, Run: unmeshed,
			Hint: "kubectl -n NAMESPACE rollout restart deploy/NAME for those that came before"},
		{Group: groupInjection, Name: "Pod Security admits proxies", Anchor: "pod-security", Modes: Before | After, Run: podSecurity,
			Hint: "kubectl label namespace NAMESPACE pod-security.kubernetes.io/enforce=privileged --overwrite: tulle-init needs NET_ADMIN"},

		{Group: groupNetwork, Name: "NetworkPolicies let the mesh through", Anchor: "network-policies", Modes: After, Run: networkPolicies,
			Hint: "apply the policy that is shown"},
		{Group: groupNetwork, Name: "nothing balances before the proxy", Anchor: "kube-proxy-replacement", Modes: Before | After, Run: kubeProxyReplacement,
			Hint: "have the network plugin balance for the nodes' own network alone"},
		{Group: groupNetwork, Name: "protocols of Services are known", Anchor: "app-protocol", Modes: After, Run: appProtocols,
			Hint: "use a value of docs/checks.md, or none: then it is detected"},
		{Group: groupNetwork, Name: "the Gateway API is there", Anchor: "gateway-api", Modes: Before | After, Run: gatewayAPI,
			Hint: "install the Gateway API's standard channel to use HTTPRoute and GRPCRoute"},

		{Group: groupProxies, Name: "proxies are ready", Anchor: "proxies-ready", Modes: Proxies, Waits: true, Run: proxiesReady,
			Hint: "kubectl -n NAMESPACE logs POD -c tulle-proxy"},
		{Group: groupProxies, Name: "proxies are of the control plane's version", Anchor: "proxies-version", Modes: Proxies, Run: proxiesVersion,
			Hint: "kubectl -n NAMESPACE rollout restart deploy/NAME"},
		{Group: groupProxies, Name: "proxies have certificates", Anchor: "proxies-certified", Keeper: mesh.Identity, Modes: Proxies, Waits: true, Run: proxiesCertified,
			Hint: "kubectl -n NAMESPACE logs POD -c tulle-proxy; tulle identity POD"},
		{Group: groupProxies, Name: "proxies hear the control plane", Anchor: "proxies-connected", Keeper: mesh.Destination, Modes: Proxies, Waits: true, Run: proxiesConnected,
			Hint: "kubectl -n NAMESPACE logs POD -c tulle-proxy; the known targets keep working meanwhile"},
		{Group: groupProxies, Name: "proxies agree with the control plane", Anchor: "proxies-agree", Keeper: mesh.Destination, Modes: Proxies, Waits: true, Run: proxiesAgree,
			Hint: "tulle diagnostics proxy POD; tulle diagnostics bundle for a report"},
		{Group: groupProxies, Name: "opaque ports are declared", Anchor: "opaque-ports", Modes: Proxies, Run: opaquePorts,
			Hint: "kubectl annotate the Service or the pods' template with config.tulle.dev/opaque-ports"},
	}
}
