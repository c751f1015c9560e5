{{/*
What the Deployments have in common. A service's template gives .component, .replicas, .resources, .args, .ports, .volumes and
.mounts (lists), and .root.
*/}}
{{- define "tulle.deployment" -}}
{{- $cp := .root.Values.controlPlane -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: tulle-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "tulle.labels" . | nindent 4 }}
spec:
  replicas: {{ $cp.replicas }}
  revisionHistoryLimit: 5
  strategy:
    type: RollingUpdate
    rollingUpdate:
      {{- toYaml $cp.rollingUpdate | nindent 6 }}
  selector:
    matchLabels:
      {{- include "tulle.selector" . | nindent 6 }}
  template:
    metadata:
      annotations:
        {{- merge (dict "tulle.dev/inject" "disabled") $cp.podAnnotations | toYaml | nindent 8 }}
      labels:
        {{- merge (include "tulle.labels" . | fromYaml) $cp.podLabels | toYaml | nindent 8 }}
    spec:
      serviceAccountName: tulle-{{ .component }}
      {{- with .root.Values.image.pullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $cp.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      terminationGracePeriodSeconds: {{ $cp.terminationGracePeriodSeconds }}
      {{- with $cp.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $cp.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with include "tulle.placement" . | trim }}
      {{- . | nindent 6 }}
      {{- end }}
      securityContext:
        runAsNonRoot: true
        runAsUser: 2103
        runAsGroup: 2103
        seccompProfile:
          type: RuntimeDefault
      containers:
        - name: {{ .component }}
          image: {{ include "tulle.image" (dict "registry" .root.Values.image.registry "name" "tulle-controller" "version" (.root.Values.image.version | default .root.Chart.AppVersion)) }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          args:
            {{- toYaml .args | nindent 12 }}
            - --trust-domain={{ .root.Values.trustDomain }}
            - --log-level={{ $cp.logLevel }}
            - --log-format={{ $cp.logFormat }}
            - --admin-listen=:9990
          {{- with dig "limits" "memory" "" .resources }}
          env:
            - name: GOMEMLIMIT
              value: {{ include "tulle.heap" . | quote }}
          {{- end }}
          ports:
            {{- toYaml .ports | nindent 12 }}
            - name: admin
              containerPort: 9990
          {{- include "tulle.probes" . | nindent 10 }}
          resources:
            {{- toYaml .resources | nindent 12 }}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities:
              drop: [ALL]
          {{- with .mounts }}
          volumeMounts:
            {{- toYaml . | nindent 12 }}
          {{- end }}
      {{- with .volumes }}
      volumes:
        {{- toYaml . | nindent 8 }}
      {{- end }}
{{- end -}}

{{/* Starting may take two minutes (identity makes the root, destination lists the cluster); after that /live answers at once. */}}
{{- define "tulle.probes" -}}
startupProbe:
  httpGet:
    path: /live
    port: admin
  periodSeconds: 1
  failureThreshold: 120
livenessProbe:
  httpGet:
    path: /live
    port: admin
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet:
    path: /ready
    port: admin
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
{{- end -}}

{{/* Where pods of a service stand to each other. */}}
{{- define "tulle.placement" -}}
{{- $cp := .root.Values.controlPlane -}}
{{- $selector := include "tulle.selector" . -}}
{{- if eq $cp.sameNode "avoided" }}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- $selector | nindent 14 }}
{{- else if eq $cp.sameNode "forbidden" }}
affinity:
  podAntiAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- $selector | nindent 12 }}
{{- end }}
{{- if ne $cp.spread "off" }}
{{- /* Zones are never insisted on: where nodes have no zone, no node would do. */}}
topologySpreadConstraints:
  {{- range $key, $unsatisfiable := dict "kubernetes.io/hostname" (ternary "DoNotSchedule" "ScheduleAnyway" (eq $cp.spread "even")) "topology.kubernetes.io/zone" "ScheduleAnyway" }}
  - topologyKey: {{ $key }}
    maxSkew: 1
    whenUnsatisfiable: {{ $unsatisfiable }}
    labelSelector:
      matchLabels:
        {{- $selector | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
    nodeTaintsPolicy: Honor
  {{- end }}
{{- end }}
{{- end -}}
