{{/* Labels that every object has; .component, where there is one, names the service. */}}
{{- define "tulle.labels" -}}
app.kubernetes.io/name: tulle
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: tulle
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- with get . "component" }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{/* Labels that select the pods of a service. They never change: a Deployment's selector cannot. */}}
{{- define "tulle.selector" -}}
app.kubernetes.io/part-of: tulle
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* An image's name: .name of .registry with .version, a tag or a digest. */}}
{{- define "tulle.image" -}}
{{- $sign := ternary "@" ":" (hasPrefix "sha256:" .version) -}}
{{ .registry }}/{{ .name }}{{ $sign }}{{ .version }}
{{- end -}}

{{/* Where a service of the control plane is. The dot at the end of the name saves the search through the pod's domains. */}}
{{- define "tulle.address" -}}
{{ .service }}.{{ .root.Release.Namespace }}.svc.{{ .root.Values.clusterDomain }}.:{{ .port }}
{{- end -}}

{{/* Nine tenths of an amount of memory, 256Mi, in bytes: what Go's heap may grow to before the kernel ends the process. */}}
{{- define "tulle.heap" -}}
{{- $units := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $number := regexFind "^[0-9.]+" (toString .) -}}
{{- mulf (float64 $number) (get $units (trimPrefix $number (toString .))) 0.9 | floor | int64 -}}
{{- end -}}

{{/* YAML of what .values has that .defaults has not. Compared as JSON: 1 of a file and 1 of --set are two types. */}}
{{- define "tulle.changed" -}}
{{- $out := dict -}}
{{- range $key, $value := .values -}}
{{- $default := get $.defaults $key -}}
{{- if and (kindIs "map" $value) (kindIs "map" $default) -}}
{{- $below := include "tulle.changed" (dict "values" $value "defaults" $default) | fromYaml -}}
{{- if $below -}}{{- $_ := set $out $key $below -}}{{- end -}}
{{- else if ne (toJson $value) (toJson $default) -}}
{{- $_ := set $out $key $value -}}
{{- end -}}
{{- end -}}
{{ toYaml $out }}
{{- end -}}

{{/* Values as the services read them: the proxy's image by name. */}}
{{- define "tulle.resolved" -}}
{{- $values := omit (deepCopy .Values) "createNamespace" -}}
{{- $_ := set $values.image "version" ($values.image.version | default .Chart.AppVersion) -}}
{{- $_ := set $values.proxy "image" ($values.proxy.image | default (printf "%s/tulle-proxy" $values.image.registry)) -}}
{{- $_ := set $values.proxy "version" ($values.proxy.version | default .Chart.AppVersion) -}}
{{ toYaml $values }}
{{- end -}}
