{{/* Refuses values that cannot work, with every fault at once, each as one sentence with what to do. Types and unknown
     keys are refused before, by values.schema.json. */}}
{{- define "rater.check" -}}
{{- $said := dict "faults" list -}}
{{- $arguments := dict "root" . "said" $said -}}
{{- include "rater.check.kafka" $arguments -}}
{{- include "rater.check.store" $arguments -}}
{{- include "rater.check.sources" $arguments -}}
{{- include "rater.check.workers" $arguments -}}
{{- include "rater.check.api" $arguments -}}
{{- include "rater.check.collect" $arguments -}}
{{- include "rater.check.observe" $arguments -}}
{{- include "rater.check.plain" (dict "said" $said "path" "config" "value" .Values.config) -}}
{{- include "rater.check.variables" $arguments -}}
{{- include "rater.check.paths" $arguments -}}
{{- with $said.faults -}}
{{- fail (printf "these values cannot be used:\n- %s" (join "\n- " .)) -}}
{{- end -}}
{{- end -}}

{{- define "rater.fault" -}}
{{- $_ := set .said "faults" (append .said.faults .text) -}}
{{- end -}}

{{- define "rater.check.kafka" -}}
{{- $said := .said -}}{{- $kafka := .root.Values.config.kafka -}}{{- $secrets := .root.Values.secrets -}}
{{- $protocol := $kafka.security_protocol | default "PLAINTEXT" -}}
{{- $sasl := hasPrefix "SASL_" $protocol -}}{{- $tls := hasSuffix "SSL" $protocol -}}
{{- if not $kafka.bootstrap -}}
{{- include "rater.fault" (dict "said" $said "text" "config.kafka.bootstrap is missing: give the brokers, as host:port,host:port") -}}
{{- end -}}
{{- range $address := splitList "," ($kafka.bootstrap | default "kafka:9092") -}}
{{- if not (regexMatch "^\\s*[^\\s/@]+:[0-9]{1,5}\\s*$" $address) -}}
{{- include "rater.fault" (dict "said" $said "text" (printf "config.kafka.bootstrap has %q in it: give each broker as host:port" $address)) -}}
{{- end -}}
{{- end -}}
{{- if not (has $protocol (list "PLAINTEXT" "SSL" "SASL_PLAINTEXT" "SASL_SSL")) -}}
{{- include "rater.fault" (dict "said" $said "text" (printf "config.kafka.security_protocol is %q: use PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL" $protocol)) -}}
{{- end -}}
{{- if and $kafka.sasl_mechanism (not (has $kafka.sasl_mechanism (list "PLAIN" "SCRAM-SHA-256" "SCRAM-SHA-512"))) -}}
{{- include "rater.fault" (dict "said" $said "text" (printf "config.kafka.sasl_mechanism is %q: use PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512" $kafka.sasl_mechanism)) -}}
{{- end -}}
{{- $source := include "rater.source" (dict "root" .root "slot" "kafka") | fromJson -}}
{{- if $sasl -}}
{{- if not $kafka.username -}}
{{- include "rater.fault" (dict "said" $said "text" (printf "config.kafka.security_protocol is %s, and config.kafka.username is missing: give it" $protocol)) -}}
{{- end -}}
{{- if not (or (and $source.name $secrets.kafka.keys.password) $kafka.password_file) -}}
{{- include "rater.fault" (dict "said" $said "text" (printf "config.kafka.security_protocol is %s, and no Secret has the password: name it in secrets.kafka.existingSecret, and its key in secrets.kafka.keys.password" $protocol)) -}}
{{- end -}}
{{- end -}}
{{- if ne (empty $secrets.kafka.keys.certificate) (empty $secrets.kafka.keys.key) -}}
{{- include "rater.fault" (dict "said" $said "text" "secrets.kafka.keys.certificate and key belong together: give both or none") -}}
{{- end -}}
{{- if $secrets.kafka.keys.certificate -}}
{{- if not $tls -}}
{{- include "rater.fault" (dict "said" $said "text" (printf "secrets.kafka.keys.certificate is for TLS, and config.kafka.security_protocol is %s: use SSL or SASL_SSL" $protocol)) -}}
{{- end -}}
{{- if not $source.name -}}
{{- include "rater.fault" (dict "said" $said "text" "secrets.kafka.keys.certificate is a key of no Secret: name it in secrets.kafka.existingSecret") -}}
{{- end -}}
{{- end -}}
{{- if and (include "rater.source" (dict "root" .root "slot" "kafkaCa") | fromJson) (not $tls) -}}
{{- include "rater.fault" (dict "said" $said "text" (printf "secrets.kafkaCa is for TLS, and config.kafka.security_protocol is %s: use SSL or SASL_SSL" $protocol)) -}}
{{- end -}}
{{- if and $source.name (not $sasl) (not $secrets.kafka.keys.certificate) -}}
{{- include "rater.fault" (dict "said" $said "text" (printf "secrets.kafka is given, and config.kafka.security_protocol is %s, which reads no password: use SASL_SSL, or name a client certificate in secrets.kafka.keys" $protocol)) -}}
{{- end -}}
{{- end -}}

{{- define "rater.check.store" -}}
{{- $said := .said -}}{{- $store := .root.Values.config.store | default dict -}}{{- $dsn := $store.dsn | default "" -}}
{{- if not $dsn -}}
{{- include "rater.fault" (dict "said" $said "text" "config.store.dsn is missing: give the ClickHouse server, as http://HOST:8123/DATABASE or https://HOST:8443/DATABASE") -}}
{{- else if contains "@" $dsn -}}
{{- include "rater.fault" (dict "said" $said "text" "config.store.dsn holds a user or a password: set config.store.username and secrets.store.existingSecret in its place") -}}
{{- else if hasPrefix "chdb:" $dsn -}}
{{- include "rater.fault" (dict "said" $said "text" "config.store.dsn is the embedded engine, which belongs to one process: give a ClickHouse server, as http://HOST:8123/DATABASE") -}}
{{- else if not (regexMatch "^https?://[^/?#\\s]+(/[^/?#\\s]*)?$" $dsn) -}}
{{- include "rater.fault" (dict "said" $said "text" (printf "config.store.dsn %q is no address: give http://HOST:8123/DATABASE or https://HOST:8443/DATABASE" $dsn)) -}}
{{- end -}}
{{- $source := include "rater.source" (dict "root" .root "slot" "store") | fromJson -}}
{{- if and $store.username (not $source.name) (not $store.password_file) -}}
{{- include "rater.fault" (dict "said" $said "text" "config.store.username is given, and no Secret has its password: name it in secrets.store.existingSecret") -}}
{{- end -}}
{{- if and $source.name (not $store.username) -}}
{{- include "rater.fault" (dict "said" $said "text" "secrets.store has a password, and config.store.username is missing: give it") -}}
{{- end -}}
{{- if and (include "rater.source" (dict "root" .root "slot" "storeCa") | fromJson) (hasPrefix "http:" $dsn) -}}
{{- include "rater.fault" (dict "said" $said "text" "secrets.storeCa is for TLS, and config.store.dsn begins with http: use https") -}}
{{- end -}}
{{- end -}}

{{/* Where secrets come from. */}}
{{- define "rater.check.sources" -}}
{{- $said := .said -}}{{- $root := .root -}}{{- $external := .root.Values.externalSecrets -}}
{{- $known := dict -}}
{{- range $slot, $values := omit $root.Values.secrets "extra" -}}
{{- $_ := set $known $slot (values $values.keys) -}}
{{- if and $values.existingSecret $values.existingConfigMap -}}
{{- include "rater.fault" (dict "said" $said "text" (printf "secrets.%s has existingSecret and existingConfigMap: give one of them" $slot)) -}}
{{- end -}}
{{- if and (or $values.existingSecret $values.existingConfigMap) (hasKey $external.data $slot) -}}
{{- include "rater.fault" (dict "said" $said "text" (printf "secrets.%s.existingSecret and externalSecrets.data.%s exclude each other: give one of them" $slot $slot)) -}}
{{- end -}}
{{- end -}}
{{- range $extra := $root.Values.secrets.extra -}}
{{- if or (hasKey $known $extra.name) (has $extra.name (list "api")) -}}
{{- include "rater.fault" (dict "said" $said "text" (printf "secrets.extra has the name %q, which is taken: use another one" $extra.name)) -}}
{{- end -}}
{{- $_ := set $known $extra.name $extra.keys -}}
{{- if not (or $extra.existingSecret (hasKey $external.data $extra.name)) -}}
{{- include "rater.fault" (dict "said" $said "text" (printf "secrets.extra: %s has no existingSecret, and externalSecrets.data has nothing of that name: give one of them" $extra.name)) -}}
{{- end -}}
{{- end -}}
{{- if and $external.enabled (not $external.secretStoreRef.name) -}}
{{- include "rater.fault" (dict "said" $said "text" "externalSecrets.enabled needs externalSecrets.secretStoreRef.name: name the store") -}}
{{- end -}}
{{- if and $external.data (not $external.enabled) -}}
{{- include "rater.fault" (dict "said" $said "text" "externalSecrets.data is given and externalSecrets.enabled is false: set it to true") -}}
{{- end -}}
{{- range $slot, $data := $external.data -}}
{{- if not (hasKey $known $slot) -}}
{{- include "rater.fault" (dict "said" $said "text" (printf "externalSecrets.data.%s is for no secret: use %s, or the name of one of secrets.extra" $slot (join ", " (keys (omit $root.Values.secrets "extra") | sortAlpha)))) -}}
{{- else -}}
{{- range $item := $data -}}
{{- if not (has $item.secretKey (index $known $slot)) -}}
{{- include "rater.fault" (dict "said" $said "text" (printf "externalSecrets.data.%s has secretKey %q, which nobody reads: use %s, or change the keys under secrets" $slot $item.secretKey (join ", " (without (index $known $slot) "")))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "rater.check.workers" -}}
{{- $said := .said -}}{{- $values := .root.Values -}}{{- $partitions := $values.config.kafka.partitions | int -}}
{{- if and $values.worker.enabled (not $values.autoscaling.enabled) (gt ($values.worker.replicas | int) $partitions) -}}
{{- include "rater.fault" (dict "said" $said "text" (printf "worker.replicas is %d and config.kafka.partitions is %d: a worker without a partition does nothing; use at most %d" ($values.worker.replicas | int) $partitions $partitions)) -}}
{{- end -}}
{{- if $values.autoscaling.enabled -}}
{{- $most := $values.autoscaling.maxReplicas | int | default $partitions -}}
{{- if gt $most $partitions -}}
{{- include "rater.fault" (dict "said" $said "text" (printf "autoscaling.maxReplicas is %d and config.kafka.partitions is %d: a worker without a partition does nothing; use at most %d" $most $partitions $partitions)) -}}
{{- end -}}
{{- if gt ($values.autoscaling.minReplicas | int) $most -}}
{{- include "rater.fault" (dict "said" $said "text" (printf "autoscaling.minReplicas is %d, more than the %d workers that there may be: use at most %d" ($values.autoscaling.minReplicas | int) $most $most)) -}}
{{- end -}}
{{- if not $values.worker.enabled -}}
{{- include "rater.fault" (dict "said" $said "text" "autoscaling.enabled scales workers, and worker.enabled is false: set one of them") -}}
{{- end -}}
{{- end -}}
{{- if ($values.config.worker | default dict).instance_id -}}
{{- include "rater.fault" (dict "said" $said "text" "config.worker.instance_id is the same for every worker, so that they would evict each other: leave it out, the chart gives each pod its name") -}}
{{- end -}}
{{- end -}}

{{- define "rater.check.api" -}}
{{- $said := .said -}}{{- $root := .root -}}{{- $values := .root.Values -}}{{- $api := $values.config.api | default dict -}}
{{- $auth := include "rater.auth" $root -}}
{{- if $values.api.enabled -}}
{{- if and (eq $auth "noauth") (not $api.i_know) -}}
{{- include "rater.fault" (dict "said" $said "text" "config.api.auth is noauth, so that everybody who reaches the API is an administrator: name a file of tokens in secrets.apiTokens.existingSecret, set config.api.auth to keystone or oidc with its section, disable api.enabled, or set config.api.i_know: true if somebody else keeps strangers away") -}}
{{- end -}}
{{- if and (eq $auth "token") (not (((include "rater.config" $root | fromJson).api | default dict).token_file)) -}}
{{- include "rater.fault" (dict "said" $said "text" "config.api.auth is token, and no Secret has the file of tokens: name it in secrets.apiTokens.existingSecret") -}}
{{- end -}}
{{- range $kind := list "keystone" "oidc" -}}
{{- if and (eq $auth $kind) (not (index $api $kind)) -}}
{{- include "rater.fault" (dict "said" $said "text" (printf "config.api.auth is %s, and config.api.%s is missing: give it" $kind $kind)) -}}
{{- end -}}
{{- end -}}
{{- $keystone := ((include "rater.config" $root | fromJson).api | default dict).keystone -}}
{{- if and $keystone (not (or $keystone.password_file $keystone.secret_file)) -}}
{{- include "rater.fault" (dict "said" $said "text" "config.api.keystone has no password: name the Secret with it in secrets.apiKeystone.existingSecret") -}}
{{- end -}}
{{- $listen := $api.listen | default "127.0.0.1:8889" -}}
{{- if regexMatch "^(127\\.|localhost:|\\[::1\\])" $listen -}}
{{- include "rater.fault" (dict "said" $said "text" (printf "config.api.listen is %s, which nothing outside of the pod reaches: use 0.0.0.0:PORT" $listen)) -}}
{{- end -}}
{{- else if or $values.ingress.enabled $values.httpRoute.enabled -}}
{{- include "rater.fault" (dict "said" $said "text" "ingress or httpRoute is enabled, and api.enabled is false: there is nothing to reach") -}}
{{- end -}}
{{- if and (include "rater.source" (dict "root" $root "slot" "apiClientCa") | fromJson) (not (include "rater.source" (dict "root" $root "slot" "apiTls") | fromJson)) -}}
{{- include "rater.fault" (dict "said" $said "text" "secrets.apiClientCa needs TLS: name the API's certificate in secrets.apiTls.existingSecret") -}}
{{- end -}}
{{- if and $values.ingress.enabled (not $values.ingress.hosts) -}}
{{- include "rater.fault" (dict "said" $said "text" "ingress.enabled needs ingress.hosts: give at least one, as [{host: rater.example.org}]") -}}
{{- end -}}
{{- if and $values.httpRoute.enabled (not $values.httpRoute.parentRefs) -}}
{{- include "rater.fault" (dict "said" $said "text" "httpRoute.enabled needs httpRoute.parentRefs: name a Gateway, as [{name: gateway}]") -}}
{{- end -}}
{{- end -}}

{{- define "rater.check.collect" -}}
{{- $said := .said -}}{{- $values := .root.Values -}}{{- $config := include "rater.config" .root | fromJson -}}
{{- if not (or $config.metrics_conf $values.config.metrics) -}}
{{- include "rater.fault" (dict "said" $said "text" "no metric is declared, so that all usage would be rejected: give files.\"metrics.yml\" or config.metrics") -}}
{{- end -}}
{{- if $values.collect.enabled -}}
{{- if not $config.collect -}}
{{- include "rater.fault" (dict "said" $said "text" "collect.enabled needs config.collect: say there what to ask, as {source: prometheus, prometheus: {url: …}, …}") -}}
{{- end -}}
{{- if not $config.metrics_conf -}}
{{- include "rater.fault" (dict "said" $said "text" "collect.enabled needs metrics to ask for: give files.\"metrics.yml\", in CloudKitty's format") -}}
{{- end -}}
{{- $collect := $config.collect | default dict -}}
{{- $kubernetes := $collect.kubernetes_fetcher | default dict -}}
{{- if and (eq ($collect.fetcher | default "") "kubernetes") (not (or $values.collect.readNamespaces $kubernetes.token_file)) -}}
{{- include "rater.fault" (dict "said" $said "text" "config.collect.fetcher is kubernetes, and the collector may not list namespaces: set collect.readNamespaces: true, or config.collect.kubernetes_fetcher with url and token_file") -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "rater.check.observe" -}}
{{- $said := .said -}}{{- $values := .root.Values -}}{{- $observe := $values.config.observe | default dict -}}
{{- $listen := $observe.listen | default "" -}}
{{- if or (not (regexMatch ":[1-9][0-9]{0,4}$" $listen)) (regexMatch "^(127\\.|localhost:|\\[::1\\])" $listen) (not $observe.listen_beyond_loopback) -}}
{{- include "rater.fault" (dict "said" $said "text" "config.observe: the kubelet and Prometheus cannot reach it; use listen: 0.0.0.0:PORT with listen_beyond_loopback: true, the NetworkPolicy says who else may") -}}
{{- else if and $values.api.enabled (eq (include "rater.healthPort" .root) (include "rater.apiPort" .root)) -}}
{{- include "rater.fault" (dict "said" $said "text" "config.observe.listen and config.api.listen have the same port: use two") -}}
{{- end -}}
{{- if and $values.monitoring.podMonitor.enabled $values.monitoring.serviceMonitor.enabled -}}
{{- include "rater.fault" (dict "said" $said "text" "monitoring.podMonitor and monitoring.serviceMonitor would scrape every pod twice: enable one of them") -}}
{{- end -}}
{{- end -}}

{{/* Secrets that stand in the settings, which everybody who may read ConfigMaps could see. */}}
{{- define "rater.check.plain" -}}
{{- $said := .said -}}{{- $path := .path -}}
{{- if kindIs "map" .value -}}
{{- range $key, $value := .value -}}
{{- if and (kindIs "string" $value) $value (regexMatch "(?i)(password|secret|token|api[-_]?key|^authorization|^cookie|^x-auth-.*|^proxy-authorization)$" $key) -}}
{{- include "rater.fault" (dict "said" $said "text" (printf "%s.%s would stand readable in a ConfigMap: put it into a Secret, name that under secrets, and use the …_file of the setting" $path $key)) -}}
{{- else -}}
{{- include "rater.check.plain" (dict "said" $said "path" (printf "%s.%s" $path $key) "value" $value) -}}
{{- end -}}
{{- end -}}
{{- else if kindIs "slice" .value -}}
{{- range $number, $value := .value -}}
{{- include "rater.check.plain" (dict "said" $said "path" (printf "%s[%d]" $path $number) "value" $value) -}}
{{- end -}}
{{- else if and (kindIs "string" .value) (ne $path "config.store.dsn") (regexMatch "://[^/@\\s]*@|(?i)[?&](password|secret|token|api_?key)=." .value) -}}
{{- include "rater.fault" (dict "said" $said "text" (printf "%s has a user, a password or a token in its URL: take it out, put it into a Secret and name that under secrets" $path)) -}}
{{- end -}}
{{- end -}}

{{- define "rater.check.variables" -}}
{{- $said := .said -}}{{- $values := .root.Values -}}
{{- $all := dict "extraEnv" $values.extraEnv -}}
{{- range $name := list "worker" "sink" "api" "collect" "jobs" "test" -}}
{{- $_ := set $all (printf "%s.extraEnv" $name) ((index $values $name).extraEnv | default list) -}}
{{- end -}}
{{- range $where, $variables := $all -}}
{{- range $variable := $variables -}}
{{- if and $variable.value (regexMatch "(?i)(password|secret|token|api_?key)$" $variable.name) -}}
{{- include "rater.fault" (dict "said" $said "text" (printf "%s: %s has its value in the values: use valueFrom.secretKeyRef" $where $variable.name)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Every `…_file` of the settings has to be there: from secrets, from files, or from a volume of the user's. */}}
{{- define "rater.check.paths" -}}
{{- $said := .said -}}{{- $values := .root.Values -}}
{{- $there := list -}}
{{- range $file := include "rater.files" (dict "root" .root) | fromJsonArray -}}
{{- $there = append $there (printf "/etc/rater/secrets/%s" $file.file) -}}
{{- end -}}
{{- range $name := list "rater.yaml" "secrets" -}}
{{- if hasKey $values.files $name -}}
{{- include "rater.fault" (dict "said" $said "text" (printf "files has the name %s, which is the chart's own: use another one" $name)) -}}
{{- end -}}
{{- end -}}
{{- range $name, $_ := $values.files -}}{{- $there = append $there (printf "/etc/rater/%s" $name) -}}{{- end -}}
{{- $mounted := list "/var/run/secrets/kubernetes.io/serviceaccount/" -}}
{{- range $name := list "worker" "sink" "api" "collect" "jobs" "test" -}}
{{- range $mount := concat ((index $values $name).extraVolumeMounts | default list) $values.extraVolumeMounts -}}
{{- $mounted = append $mounted (printf "%s/" (trimSuffix "/" $mount.mountPath)) -}}
{{- end -}}
{{- end -}}
{{- $config := include "rater.config" .root | fromJson -}}
{{- include "rater.check.file" (dict "said" $said "path" "config" "value" $config "there" $there "mounted" $mounted) -}}
{{- if $config.metrics_conf -}}
{{- include "rater.check.file" (dict "said" $said "path" "config" "value" (dict "metrics_conf_file" $config.metrics_conf) "there" $there "mounted" $mounted) -}}
{{- end -}}
{{- end -}}

{{- define "rater.check.file" -}}
{{- $arguments := . -}}
{{- if kindIs "map" .value -}}
{{- range $key, $value := .value -}}
{{- if and (hasSuffix "_file" $key) (kindIs "string" $value) $value -}}
{{- $full := clean (ternary $value (printf "/etc/rater/%s" $value) (hasPrefix "/" $value)) -}}
{{- $found := has $full $arguments.there -}}
{{- range $mount := $arguments.mounted -}}{{- if hasPrefix $mount $full -}}{{- $found = true -}}{{- end -}}{{- end -}}
{{- if and (not $found) (eq $key "audit_file") -}}
{{- include "rater.fault" (dict "said" $arguments.said "text" (printf "%s.audit_file is %s, where nothing can be written: mount a volume there with api.extraVolumes and api.extraVolumeMounts, or leave it to the log" $arguments.path $value)) -}}
{{- else if not $found -}}
{{- include "rater.fault" (dict "said" $arguments.said "text" (printf "%s.%s is %s, and nothing brings that file: name its Secret under secrets (secrets.extra: /etc/rater/secrets/NAME/KEY), give it in files, or mount it with extraVolumes and extraVolumeMounts" $arguments.path (ternary "metrics_conf" $key (eq $key "metrics_conf_file")) $value)) -}}
{{- end -}}
{{- else -}}
{{- include "rater.check.file" (dict "said" $arguments.said "path" (printf "%s.%s" $arguments.path $key) "value" $value "there" $arguments.there "mounted" $arguments.mounted) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
