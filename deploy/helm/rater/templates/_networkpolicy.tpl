{{/* The ports of the addresses in a text, as a JSON list of numbers: those that it names, else by the scheme. Takes the text. */}}
{{- define "rater.urlPorts" -}}
{{- $ports := list -}}
{{- range $url := regexFindAll "https?://[^\\s\"'/,\\\\]+" . -1 -}}
{{- $port := regexFind ":[0-9]+$" $url | trimPrefix ":" -}}
{{- $ports = append $ports (default (ternary "443" "80" (hasPrefix "https" $url)) $port | int) -}}
{{- end -}}
{{- $ports | uniq | toJson -}}
{{- end -}}

{{/* One rule of egress. Takes to (peers, empty: anybody) and ports (numbers). */}}
{{- define "rater.egress" -}}
{{- if .ports -}}
- ports:
  {{- range .ports }}
    - {protocol: TCP, port: {{ . | int }}}
  {{- end }}
  {{- with .to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "rater.kafkaPorts" -}}
{{- $ports := list -}}
{{- range $address := splitList "," (.Values.config.kafka.bootstrap | default "") -}}
{{- $ports = append $ports (include "rater.portOf" (trim $address) | default "9092" | int) -}}
{{- end -}}
{{- concat $ports .Values.networkPolicy.egress.kafkaPorts | uniq | toJson -}}
{{- end -}}

{{- define "rater.storePorts" -}}
{{- $dsn := (.Values.config.store | default dict).dsn | default "" -}}
{{- $port := regexFind "^https?://(\\[[^]]*\\]|[^:/]+):[0-9]+" $dsn | include "rater.portOf" -}}
{{- $ports := list (default (ternary "8443" "8123" (hasPrefix "https" $dsn)) $port | int) -}}
{{- concat $ports .Values.networkPolicy.egress.clickhousePorts | uniq | toJson -}}
{{- end -}}

{{/* What a component may reach and by whom it may be reached. Takes root, name, component, annotations. */}}
{{- define "rater.networkPolicy" }}
{{- $policy := .root.Values.networkPolicy }}{{- $config := .root.Values.config }}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "rater.metadata" . | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "rater.selector" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  {{- if has .component (list "worker" "sink" "api" "collect") }}
  ingress:
    # metrics; the kubelet's probes need no rule
    - ports:
        - {protocol: TCP, port: health}
      {{- with $policy.ingress.metrics }}
      from:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- if eq .component "api" }}
    - ports:
        - {protocol: TCP, port: api}
      {{- with $policy.ingress.api }}
      from:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- end }}
  {{- end }}
  egress:
    # names
    - ports:
        - {protocol: UDP, port: 53}
        - {protocol: TCP, port: 53}
      {{- with $policy.egress.dns }}
      to:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    # Kafka
    {{- include "rater.egress" (dict "to" $policy.egress.kafka "ports" (include "rater.kafkaPorts" .root | fromJsonArray)) | nindent 4 }}
    {{- if has .component (list "sink" "api" "jobs" "test") }}
    # ClickHouse
    {{- include "rater.egress" (dict "to" $policy.egress.clickhouse "ports" (include "rater.storePorts" .root | fromJsonArray)) | nindent 4 }}
    {{- end }}
    {{- if or (eq .component "collect") (and (eq .component "sink") (include "rater.asksAgain" .root)) }}
    {{- $ports := concat (include "rater.urlPorts" ($config.collect | default dict | toJson) | fromJsonArray) $policy.egress.sourcePorts | uniq }}
    {{- if and $ports $config.collect }}
    # sources; the sink asks them again for requests of CloudKitty's API
    {{- include "rater.egress" (dict "to" $policy.egress.sources "ports" $ports) | nindent 4 }}
    {{- end }}
    {{- end }}
    {{- if and (eq .component "collect") .root.Values.collect.readNamespaces }}
    # the API server, for namespaces
    {{- include "rater.egress" (dict "to" $policy.egress.kubernetes "ports" (list 443 6443)) | nindent 4 }}
    {{- end }}
    {{- if eq .component "api" }}
    {{- with include "rater.urlPorts" (pick ($config.api | default dict) "keystone" "oidc" | toJson) | fromJsonArray }}
    # whoever tells who somebody is
    {{- include "rater.egress" (dict "to" $policy.egress.identity "ports" .) | nindent 4 }}
    {{- end }}
    {{- end }}
    {{- with (($config.observe | default dict).tracing | default dict).endpoint }}
    # whoever takes traces
    {{- include "rater.egress" (dict "to" $policy.egress.traces "ports" (include "rater.urlPorts" . | fromJsonArray)) | nindent 4 }}
    {{- end }}
    {{- with $policy.egress.extra }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
