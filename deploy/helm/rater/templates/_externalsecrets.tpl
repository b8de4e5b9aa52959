{{/* The names below externalSecrets.data that something reads, as a JSON list; of one component if it is given. */}}
{{- define "rater.externalSlots" -}}
{{- $found := list -}}
{{- range $file := include "rater.files" (dict "root" .root) | fromJsonArray -}}
{{- if or (not $.component) (has $.component $file.for) -}}
{{- range $slot, $_ := $.root.Values.externalSecrets.data -}}
{{- if eq $file.source.name (include "rater.externalName" (dict "root" $.root "slot" $slot)) -}}
{{- $found = append $found $slot -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $found | uniq | sortAlpha | toJson -}}
{{- end -}}

{{- define "rater.externalSecret" }}
{{- $external := .root.Values.externalSecrets }}
{{- $name := include "rater.externalName" (dict "root" .root "slot" .slot "hook" .hook) }}
apiVersion: {{ $external.apiVersion }}
kind: ExternalSecret
metadata:
  {{- include "rater.metadata" (dict "root" .root "name" $name "component" .component "annotations" .annotations) | nindent 2 }}
spec:
  refreshInterval: {{ $external.refreshInterval }}
  secretStoreRef:
    {{- toYaml $external.secretStoreRef | nindent 4 }}
  target:
    name: {{ $name }}
    creationPolicy: Owner
  data:
    {{- toYaml (index $external.data .slot) | nindent 4 }}
{{- end -}}
