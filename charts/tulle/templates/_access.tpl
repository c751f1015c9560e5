{{/*
The rights of each service, the least that it works with. Rules of a ClusterRole hold in every namespace, those of a Role in the
release's. Creating cannot be limited by name: an object's name is not known to authorization then.
*/}}
{{- define "tulle.rules" -}}
identity:
  cluster:
    - apiGroups: [authentication.k8s.io]
      resources: [tokenreviews]
      verbs: [create]
    # Who is certified must be a pod, and the trust bundle goes to every namespace with meshed pods.
    - apiGroups: [""]
      resources: [namespaces, pods]
      verbs: [list, watch]
    - apiGroups: [""]
      resources: [configmaps]
      verbs: [create]
    - apiGroups: [""]
      resources: [configmaps]
      resourceNames: [tulle-trust-bundle]
      verbs: [list, watch, update, delete]
  own:
    - apiGroups: [""]
      resources: [secrets]
      verbs: [create]
    - apiGroups: [""]
      resources: [secrets]
      resourceNames: [tulle-identity-root, tulle-identity-issuer]
      verbs: [get, update]
    # One replica at a time rotates and hands out the trust bundle; in the Lease they tell how far they are.
    - apiGroups: [coordination.k8s.io]
      resources: [leases]
      verbs: [create]
    - apiGroups: [coordination.k8s.io]
      resources: [leases]
      resourceNames: [tulle-identity]
      verbs: [get, update, patch]
destination:
  cluster:
    - apiGroups: [""]
      resources: [namespaces, nodes, pods, services]
      verbs: [list, watch]
    - apiGroups: [discovery.k8s.io]
      resources: [endpointslices]
      verbs: [list, watch]
    - apiGroups: [gateway.networking.k8s.io]
      resources: [httproutes]
      verbs: [list, watch]
    - apiGroups: [policy.tulle.dev]
      resources: [externalworkloads]
      verbs: [list, watch]
injector:
  cluster:
    # A namespace's annotation is mirrored into its label, which the webhook selects by.
    - apiGroups: [""]
      resources: [namespaces]
      verbs: [get, list, watch, patch]
    # Those that should have a proxy and have none are looked for.
    - apiGroups: [""]
      resources: [pods]
      verbs: [list]
    - apiGroups: [""]
      resources: [events]
      verbs: [create, patch]
    - apiGroups: [admissionregistration.k8s.io]
      resources: [mutatingwebhookconfigurations]
      resourceNames: [tulle-injector]
      verbs: [get, list, watch, patch]
  own:
    - apiGroups: [""]
      resources: [configmaps]
      resourceNames: [tulle-config]
      verbs: [list, watch]
    - apiGroups: [""]
      resources: [secrets]
      verbs: [create]
    - apiGroups: [""]
      resources: [secrets]
      resourceNames: [tulle-injector-tls]
      verbs: [get, list, watch, update]
    - apiGroups: [coordination.k8s.io]
      resources: [leases]
      verbs: [create]
    - apiGroups: [coordination.k8s.io]
      resources: [leases]
      resourceNames: [tulle-injector]
      verbs: [get, update]
{{- end -}}
