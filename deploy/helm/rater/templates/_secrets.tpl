{{/* What each key of a Secret is for: the file that it becomes below /etc/rater/secrets, the key of rater.yaml that
     names this file, and who gets to see it. */}}
{{- define "rater.slots" -}}
- {slot: kafka, key: password, file: kafka/password, section: kafka, setting: password_file, for: [worker, sink, api, collect, jobs, test]}
- {slot: kafka, key: certificate, file: kafka/tls.crt, section: kafka, setting: certificate_file, for: [worker, sink, api, collect, jobs, test]}
- {slot: kafka, key: key, file: kafka/tls.key, section: kafka, setting: key_file, for: [worker, sink, api, collect, jobs, test]}
- {slot: kafkaCa, key: ca, file: kafka/ca.crt, section: kafka, setting: ca_file, for: [worker, sink, api, collect, jobs, test]}
- {slot: store, key: password, file: store/password, section: store, setting: password_file, for: [sink, api, jobs, test]}
- {slot: storeCa, key: ca, file: store/ca.crt, section: store, setting: ca_file, for: [sink, api, jobs, test]}
- {slot: apiTokens, key: tokens, file: api/tokens.yaml, section: api, setting: token_file, for: [api]}
- {slot: apiTls, key: certificate, file: api/tls.crt, section: api, setting: certificate_file, for: [api]}
- {slot: apiTls, key: key, file: api/tls.key, section: api, setting: key_file, for: [api]}
- {slot: apiClientCa, key: ca, file: api/client-ca.crt, section: api, setting: client_ca_file, for: [api]}
- {slot: apiKeystone, key: password, file: api/keystone, section: api, setting: keystone, for: [api]}
{{- end -}}

{{/* Where a slot comes from, as JSON: {kind: secret or configMap, name}; {} if it is not given.
     Takes root, slot and `hook`: the Secrets that external-secrets makes for the hooks have names of their own. */}}
{{- define "rater.source" -}}
{{- $values := index .root.Values.secrets .slot | default dict -}}
{{- if eq .slot "extra" -}}{{- $values = .extra -}}{{- end -}}
{{- $name := .extra | default dict | dig "name" .slot -}}
{{- $external := .root.Values.externalSecrets -}}
{{- if $values.existingSecret -}}
{{- dict "kind" "secret" "name" $values.existingSecret | toJson -}}
{{- else if $values.existingConfigMap -}}
{{- dict "kind" "configMap" "name" $values.existingConfigMap | toJson -}}
{{- else if and $external.enabled (hasKey $external.data $name) -}}
{{- dict "kind" "secret" "name" (include "rater.externalName" (dict "root" .root "slot" $name "hook" .hook)) | toJson -}}
{{- else -}}
{}
{{- end -}}
{{- end -}}

{{- define "rater.externalName" -}}
{{- printf "%s%s-%s" (include "rater.fullname" .root) (ternary "-hook" "" (.hook | default false)) (kebabcase .slot) -}}
{{- end -}}

{{/* The files that there are, as a JSON list of {source, key, file, section, setting, for}. Takes root and hook. */}}
{{- define "rater.files" -}}
{{- $root := .root -}}{{- $hook := .hook | default false -}}
{{- $protocol := $root.Values.config.kafka.security_protocol | default "PLAINTEXT" -}}
{{- $found := list -}}
{{- range $slot := include "rater.slots" $root | fromYamlArray -}}
{{- $source := include "rater.source" (dict "root" $root "slot" $slot.slot "hook" $hook) | fromJson -}}
{{- $key := dig "keys" $slot.key "" (index $root.Values.secrets $slot.slot) -}}
{{- $wanted := and $source.name $key -}}
{{- if eq $slot.setting "keystone" -}}
{{- $keystone := ($root.Values.config.api | default dict).keystone | default dict -}}
{{- $_ := set $slot "setting" (ternary "secret_file" "password_file" (not (empty $keystone.application_credential_id))) -}}
{{- $_ := set $slot "within" "keystone" -}}
{{- $wanted = and $wanted ($root.Values.config.api | default dict).keystone -}}
{{- end -}}
{{- if and (eq $slot.slot "kafka") (eq $slot.key "password") (not (hasPrefix "SASL_" $protocol)) -}}
{{- $wanted = false -}}
{{- end -}}
{{- if $wanted -}}
{{- $found = append $found (mergeOverwrite (deepCopy $slot) (dict "source" $source "key" $key "key_name" $slot.key)) -}}
{{- end -}}
{{- end -}}
{{- range $extra := $root.Values.secrets.extra -}}
{{- $source := include "rater.source" (dict "root" $root "slot" "extra" "extra" $extra "hook" $hook) | fromJson -}}
{{- if $source.name -}}
{{- range $key := $extra.keys -}}
{{- $for := $extra.components | default (ternary (list "collect" "sink") (list "collect") (include "rater.asksAgain" $root | eq "true")) -}}
{{- $found = append $found (dict "source" $source "key" $key "file" (printf "%s/%s" $extra.name $key) "for" $for) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $found | toJson -}}
{{- end -}}

{{/* The sources of the projected volume /etc/rater of a component: rater.yaml, what stands beside it, and its secrets. */}}
{{- define "rater.projected" -}}
{{- $hook := .hook | default false -}}
- configMap:
    name: {{ include "rater.fullname" .root }}{{ ternary "-hook" "" $hook }}
{{- $groups := dict -}}
{{- range $file := include "rater.files" (dict "root" .root "hook" $hook) | fromJsonArray -}}
{{- if has $.component $file.for -}}
{{- $id := printf "%s/%s" $file.source.kind $file.source.name -}}
{{- $items := append (dig $id (list) $groups) (dict "key" $file.key "path" (printf "secrets/%s" $file.file)) -}}
{{- $_ := set $groups $id $items -}}
{{- end -}}
{{- end -}}
{{- range $id, $items := $groups }}
{{- $parts := splitn "/" 2 $id }}
- {{ $parts._0 }}:
    name: {{ $parts._1 }}
    items:
    {{- toYaml $items | nindent 4 }}
{{- end -}}
{{- end -}}

{{/* "true" if the sink asks the source again, for requests that come by CloudKitty's API. */}}
{{- define "rater.asksAgain" -}}
{{- $config := .Values.config -}}
{{- if and $config.collect (kindIs "map" (($config.api | default dict).cloudkitty)) -}}true{{- end -}}
{{- end -}}
