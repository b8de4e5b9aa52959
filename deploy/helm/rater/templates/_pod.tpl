{{/* Shown beside each kind of pod: what all of them have in common. Takes
     root, component (worker, sink, api, collect, jobs, test), args (of the command rater), and may take
     serving (probes and a health port), hook (settings and secrets of the hooks), restart (restartPolicy), env, ports,
     lifecycle, tokenOf (name of a service account whose token is mounted). */}}
{{- define "rater.pod" -}}
{{- $root := .root -}}{{- $values := $root.Values -}}{{- $own := index $values .component -}}
metadata:
  labels:
    {{- include "rater.labels" (dict "root" $root "component" .component "more" (mergeOverwrite dict $values.podLabels ($own.podLabels | default dict))) | nindent 4 }}
  annotations:
    kubectl.kubernetes.io/default-container: rater
    checksum/config: {{ include "rater.configData" $root | sha256sum }}
    {{- with mergeOverwrite dict $values.commonAnnotations $values.podAnnotations ($own.podAnnotations | default dict) }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- if .tokenOf }}
  serviceAccountName: {{ .tokenOf }}
  {{- else if .hook }}
  serviceAccountName: {{ ternary (printf "%s-hook" (include "rater.fullname" $root)) (include "rater.serviceAccount" $root) $values.serviceAccount.create }}
  {{- else }}
  serviceAccountName: {{ include "rater.serviceAccount" $root }}
  {{- end }}
  automountServiceAccountToken: false
  # variables named after Services begin with RATER_, as settings do
  enableServiceLinks: false
  {{- with $values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- toYaml $values.podSecurityContext | nindent 4 }}
  {{- with .restart }}
  restartPolicy: {{ . }}
  {{- end }}
  {{- with $own.terminationGracePeriodSeconds }}
  terminationGracePeriodSeconds: {{ . | int }}
  {{- end }}
  {{- with coalesce $own.priorityClassName $values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with coalesce $own.nodeSelector $values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with coalesce $own.affinity $values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with coalesce $own.tolerations $values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if .serving }}
  {{- with ternary $own.topologySpreadConstraints $values.topologySpreadConstraints (hasKey $own "topologySpreadConstraints") }}
  topologySpreadConstraints:
  {{- range . }}
    - {{- mergeOverwrite (dict "labelSelector" (dict "matchLabels" (include "rater.selector" (dict "root" $root "component" $.component) | fromYaml))) . | toYaml | nindent 6 }}
  {{- end }}
  {{- end }}
  {{- end }}
  {{- with $own.initContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: rater
      image: {{ include "rater.image" $root }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      command: [rater]
      args:
        {{- toYaml .args | nindent 8 }}
      env:
        - {name: RATER_CONFIG, value: /etc/rater/rater.yaml}
        - {name: HOME, value: /tmp}
        {{- with concat (.env | default list) ($own.extraEnv | default list) $values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with concat ($own.extraEnvFrom | default list) $values.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- if .serving }}
      ports:
        - {name: health, containerPort: {{ include "rater.healthPort" $root }}, protocol: TCP}
        {{- with .ports }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- range $kind := list "startup" "readiness" "liveness" }}
      {{ $kind }}Probe:
        httpGet: {path: {{ ternary "/readyz" "/healthz" (eq $kind "readiness") }}, port: health}
        {{- mergeOverwrite (deepCopy (index $values.probes $kind)) (dig "probes" $kind (dict) $own) | toYaml | nindent 8 }}
      {{- end }}
      {{- end }}
      {{- with .lifecycle }}
      lifecycle:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      resources:
        {{- toYaml $own.resources | nindent 8 }}
      securityContext:
        {{- toYaml $values.securityContext | nindent 8 }}
      volumeMounts:
        - {name: config, mountPath: /etc/rater, readOnly: true}
        - {name: tmp, mountPath: /tmp}
        {{- if .tokenOf }}
        - {name: token, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
        {{- end }}
        {{- with concat ($own.extraVolumeMounts | default list) $values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with $own.sidecars }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    - name: config
      projected:
        defaultMode: 0440
        sources:
          {{- include "rater.projected" (dict "root" $root "component" .component "hook" .hook) | nindent 10 }}
    - name: tmp
      emptyDir:
        sizeLimit: {{ $values.tmpSize }}
    {{- if .tokenOf }}
    - name: token
      projected:
        defaultMode: 0440
        sources:
          - serviceAccountToken: {path: token, expirationSeconds: 3600}
          - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
    {{- end }}
    {{- with concat ($own.extraVolumes | default list) $values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
