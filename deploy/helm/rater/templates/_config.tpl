{{/* rater.yaml as JSON: `config`, with the paths of the files that the chart mounts. */}}
{{- define "rater.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- range $file := include "rater.files" (dict "root" .) | fromJsonArray -}}
{{- if $file.setting -}}
{{- $section := index $config $file.section | default dict -}}
{{- $_ := set $config $file.section $section -}}
{{- if $file.within -}}{{- $section = index $section $file.within -}}{{- end -}}
{{- $_ := set $section $file.setting (printf "/etc/rater/secrets/%s" $file.file) -}}
{{- end -}}
{{- end -}}
{{- if and (hasKey .Values.files "metrics.yml") (not $config.metrics_conf) -}}
{{- $_ := set $config "metrics_conf" "metrics.yml" -}}
{{- end -}}
{{- if .Values.test.enabled -}}
{{- $metrics := $config.metrics | default dict -}}
{{- $_ := set $config "metrics" (merge $metrics (dict "rater.selftest" (dict "unit" "unit" "description" "Of helm test; never billed"))) -}}
{{- end -}}
{{- $config | toJson -}}
{{- end -}}

{{/* The data of the ConfigMap. Refuses faulty values first, so that whatever uses it is checked. */}}
{{- define "rater.configData" -}}
{{- include "rater.check" . -}}
rater.yaml: |
  # Written by the chart from `config`, `secrets` and `files`.
  {{- include "rater.config" . | fromJson | toYaml | nindent 2 }}
{{- range $name, $content := .Values.files }}
{{ $name }}: {{ $content | toJson }}
{{- end }}
{{- end -}}

{{- define "rater.apiPort" -}}
{{- include "rater.portOf" ((.Values.config.api | default dict).listen | default "127.0.0.1:8889") -}}
{{- end -}}

{{- define "rater.healthPort" -}}
{{- include "rater.portOf" .Values.config.observe.listen -}}
{{- end -}}

{{/* How the API recognises whoever asks, as rater finds it out. */}}
{{- define "rater.auth" -}}
{{- $api := (include "rater.config" . | fromJson).api | default dict -}}
{{- $api.auth | default (ternary "token" "noauth" (ne ($api.token_file | default "") "")) -}}
{{- end -}}
