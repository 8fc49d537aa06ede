{{/* The namespace of Linkspan: the program knows it by this name. */}}
{{- define "linkspan.namespace" -}}
linkspan-system
{{- end }}

{{/* Labels of every object, beside those of its own. */}}
{{- define "linkspan.labels" -}}
app.kubernetes.io/name: linkspan
app.kubernetes.io/part-of: linkspan
{{- end }}

{{- define "linkspan.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* What ConfigMap linkspan holds, as YAML; empty where nothing is set. */}}
{{- define "linkspan.config" -}}
{{- $data := dict -}}
{{- with .Values.cluster.id }}{{ $_ := set $data "LINKSPAN_CLUSTER_ID" . }}{{ end -}}
{{- with .Values.cluster.podCIDRs }}{{ $_ := set $data "LINKSPAN_POD_CIDRS" (join "," .) }}{{ end -}}
{{- with .Values.cluster.serviceCIDRs }}{{ $_ := set $data "LINKSPAN_SERVICE_CIDRS" (join "," .) }}{{ end -}}
{{- with .Values.cluster.virtualPool }}{{ $_ := set $data "LINKSPAN_VIRTUAL_POOL" (join "," .) }}{{ end -}}
{{- with .Values.cluster.allowedPrefixes }}{{ $_ := set $data "LINKSPAN_ALLOWED_PREFIXES" (join "," .) }}{{ end -}}
{{- with .Values.cluster.reservedNamespaces }}{{ $_ := set $data "LINKSPAN_RESERVED_NAMESPACES" (join "," .) }}{{ end -}}
{{- with .Values.gateway.selector }}{{ $_ := set $data "LINKSPAN_GATEWAY_SELECTOR" . }}{{ end -}}
{{- with .Values.gateway.port }}{{ $_ := set $data "LINKSPAN_PORT" (int . | toString) }}{{ end -}}
{{- with .Values.gateway.lanes }}{{ $_ := set $data "LINKSPAN_LANES" (int . | toString) }}{{ end -}}
{{- with .Values.gateway.mtu }}{{ $_ := set $data "LINKSPAN_MTU" (int . | toString) }}{{ end -}}
{{- with .Values.log }}{{ $_ := set $data "LINKSPAN_LOG" . }}{{ end -}}
{{- with .Values.otlp.endpoint }}{{ $_ := set $data "LINKSPAN_OTLP_ENDPOINT" . }}{{ end -}}
{{- with .Values.otlp.certificate }}{{ $_ := set $data "LINKSPAN_OTLP_CERTIFICATE" . }}{{ end -}}
{{- range $name, $value := .Values.extraConfig }}
{{- if hasKey $data $name }}{{ fail (printf "extraConfig.%s is set by a value of its own, too: leave out one of the two" $name) }}{{ end }}
{{- $_ := set $data $name $value }}
{{- end -}}
{{- if $data }}{{ toYaml $data }}{{ end -}}
{{- end }}

{{/* Annotations of a role's pods; a change of the configuration replaces them. Takes (list . .Values.ROLE extra-annotations). */}}
{{- define "linkspan.podAnnotations" -}}
{{- $root := index . 0 -}}
{{- $annotations := merge (dict) (index . 2) (index . 1).podAnnotations -}}
{{- with include "linkspan.config" $root }}{{ $_ := set $annotations "linkspan.dev/config" (sha256sum . | trunc 16) }}{{ end -}}
{{- if $annotations }}
annotations:
  {{- toYaml $annotations | nindent 2 }}
{{- end }}
{{- end }}

{{/* Files of manifests that have no values, with more labels and annotations. Takes (list . "files/*.yaml" labels annotations). */}}
{{- define "linkspan.files" -}}
{{- $root := index . 0 -}}
{{- $labels := index . 2 -}}
{{- $annotations := index . 3 -}}
{{- range $path, $_ := $root.Files.Glob (index . 1) }}
{{- range $text := regexSplit "(?m)^---\\s*$" ($root.Files.Get $path) -1 }}
{{- $object := fromYaml $text }}
{{- if $object.Error }}{{ fail (printf "%s: %s" $path $object.Error) }}{{ end }}
{{- if $object }}
{{- $_ := set $object.metadata "labels" (merge (dict) ($object.metadata.labels | default dict) $labels) }}
{{- if $annotations }}
{{- $_ := set $object.metadata "annotations" (merge (dict) ($object.metadata.annotations | default dict) $annotations) }}
{{- end }}
---
{{ toYaml $object }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
