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
