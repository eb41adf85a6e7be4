{{/* Combinations that cannot work, each refused by name before anything is installed. */}}
{{- define "order-sync.refuse" -}}
{{- $values := .Values -}}
{{- if not .Values.image.repository }}{{ fail "image.repository is required: build the Dockerfile, push the image, name it here" }}{{ end -}}
{{- if and .Values.image.tag .Values.image.digest }}{{ fail "image.tag and image.digest exclude each other: a digest already says which image" }}{{ end -}}
{{- if and .Values.mapping.text .Values.mapping.existingConfigMap }}{{ fail "mapping.text and mapping.existingConfigMap exclude each other" }}{{ end -}}
{{- if not (or .Values.mapping.text .Values.mapping.existingConfigMap) }}{{ fail "mapping.text or mapping.existingConfigMap is required: helm install --set-file mapping.text=mapping.yaml" }}{{ end -}}
{{- if not .Values.config.destinations }}{{ fail "config.destinations is required: one entry for each API key; see files/reference.yaml" }}{{ end -}}
{{- $settings := include "order-sync.effective" . | fromJson -}}
{{- if has $settings.operate.listen_host (list "127.0.0.1" "::1" "localhost") }}{{ fail "config.operate.listen_host: the kubelet and Prometheus ask from outside the pod; leave it at 0.0.0.0, or :: for IPv6" }}{{ end -}}
{{- if not $settings.operate.listen_port }}{{ fail "config.operate.listen_port: probes need a fixed port, not 0" }}{{ end -}}
{{- $given := keys .Values.secrets -}}
{{- range .Values.extraEnv }}{{ $given = append $given (trimSuffix "_FILE" .name) }}{{ end -}}
{{- $needed := dict -}}
{{- range $name, $one := .Values.config.destinations }}{{ $_ := set $needed (printf "destinations.%s.api_key_env" $name) (default "ORDER_SYNC_API_KEY" $one.api_key_env) }}{{ end -}}
{{- with $settings.postgres.password_env }}{{ $_ := set $needed "postgres.password_env" . }}{{ end -}}
{{- with $settings.ingest.erase_key_env }}{{ $_ := set $needed "ingest.erase_key_env" . }}{{ end -}}
{{- range $key, $variable := $settings.kafka.secret_properties }}{{ $_ := set $needed (printf "kafka.secret_properties.%s" $key) $variable }}{{ end -}}
{{- range $key, $variable := $settings.kafka.schema_registry_secret_properties }}{{ $_ := set $needed (printf "kafka.schema_registry_secret_properties.%s" $key) $variable }}{{ end -}}
{{- range $key, $variable := $needed -}}
{{- if not (has $variable $given) }}{{ fail (printf "config.%s names %s: say under secrets.%s where its value lies" $key $variable $variable) }}{{ end -}}
{{- end -}}
{{- $variables := values $needed -}}
{{- range $variable := keys .Values.secrets | sortAlpha -}}
{{- if not (has $variable $variables) }}{{ fail (printf "secrets.%s: no key of config names it; remove it, or name it there" $variable) }}{{ end -}}
{{- end -}}
{{- if and .Values.migrate.dsn (not .Values.migrate.enabled) }}{{ fail "migrate.dsn is for migrate.enabled: true" }}{{ end -}}
{{- if and .Values.migrate.passwordSecret.name (not .Values.migrate.dsn) }}{{ fail "migrate.passwordSecret is for migrate.dsn: the pods' own role has config.postgres.password_env" }}{{ end -}}
{{- if and .Values.podDisruptionBudget.enabled (eq (kindIs "invalid" .Values.podDisruptionBudget.minAvailable) (kindIs "invalid" .Values.podDisruptionBudget.maxUnavailable)) }}{{ fail "podDisruptionBudget: set exactly one of minAvailable and maxUnavailable, the other to null" }}{{ end -}}
{{- if and (has (toString .Values.rollingUpdate.maxSurge) (list "0" "0%")) (has (toString .Values.rollingUpdate.maxUnavailable) (list "0" "0%")) }}{{ fail "rollingUpdate: maxSurge and maxUnavailable are both 0: no pod could ever be replaced" }}{{ end -}}
{{- if and (not .Values.serviceAccount.create) .Values.serviceAccount.annotations }}{{ fail "serviceAccount.annotations are for serviceAccount.create: true" }}{{ end -}}
{{- if and .Values.monitoring.prometheusRule.enabled (not (or .Values.monitoring.podMonitor.enabled .Values.monitoring.job)) }}{{ fail "monitoring.prometheusRule without monitoring.podMonitor: set monitoring.job to the job label under which Prometheus scrapes the pods" }}{{ end -}}
{{- range $volume := .Values.extraVolumes -}}
{{- if has $volume.name (list "settings" "mapping" "secrets" "tmp" "migrate-secret") }}{{ fail (printf "extraVolumes: the chart itself has a volume %s; choose another name" $volume.name) }}{{ end -}}
{{- end -}}
{{- end -}}
