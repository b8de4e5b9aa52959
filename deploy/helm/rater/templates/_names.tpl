{{/* The names of objects: fullname, cut so that every suffix and a pod's hash fit into 63 characters. */}}
{{- define "rater.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "rater.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "rater.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository (default .Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Labels that select: of the release, and of a component if one is given. Takes (dict "root" $ "component" "api"). */}}
{{- define "rater.selector" -}}
app.kubernetes.io/name: {{ include "rater.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{/* Labels of an object, as YAML; those of the chart stand above those that the user adds. */}}
{{- define "rater.labels" -}}
{{- $own := include "rater.selector" . | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/version" (.root.Chart.AppVersion | toString) -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" .root.Release.Service -}}
{{- $_ := set $own "app.kubernetes.io/part-of" "rater" -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63) -}}
{{- mergeOverwrite dict .root.Values.commonLabels (.more | default dict) $own | toYaml -}}
{{- end -}}

{{/* The metadata of an object. Takes root, name, and may take component, labels and annotations. */}}
{{- define "rater.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "rater.labels" (dict "root" .root "component" .component "more" .labels) | nindent 2 }}
{{- with mergeOverwrite dict .root.Values.commonAnnotations (.annotations | default dict) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "rater.serviceAccount" -}}
{{- default (ternary (include "rater.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end -}}

{{/* Annotations of a hook before install and upgrade. Takes the weight. */}}
{{- define "rater.hook" -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}

{{/* The port of host:port. */}}
{{- define "rater.portOf" -}}
{{- regexFind "[0-9]+$" . -}}
{{- end -}}

{{- define "rater.components" -}}
{{- $found := list -}}
{{- range $name := list "worker" "sink" "api" "collect" -}}
{{- if (index $.Values $name).enabled -}}{{- $found = append $found $name -}}{{- end -}}
{{- end -}}
{{- $found | toJson -}}
{{- end -}}
