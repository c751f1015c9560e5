{{/* Labels that every definition has. */}}
{{- define "crds.labels" -}}
app.kubernetes.io/name: tulle-crds
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: tulle
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}
