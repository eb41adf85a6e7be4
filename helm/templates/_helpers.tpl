{{/* Names, labels and the few settings that Kubernetes has to know too. */}}

{{- define "order-sync.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "order-sync.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "order-sync.name" . -}}
{{- (contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name)) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "order-sync.selector" -}}
app.kubernetes.io/name: {{ include "order-sync.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "order-sync.labels" -}}
{{ include "order-sync.selector" . }}
app.kubernetes.io/version: {{ default .Chart.AppVersion .Values.image.tag | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "order-sync.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "order-sync.fullname" .) "default") -}}
{{- end -}}

{{- define "order-sync.image" -}}
{{- .Values.image.repository -}}
{{- if .Values.image.digest -}}@{{ .Values.image.digest }}{{- else -}}:{{ default .Chart.AppVersion .Values.image.tag }}{{- end -}}
{{- end -}}

{{/* The settings as the daemon sees them: config over the defaults of config/reference.yaml. */}}
{{- define "order-sync.effective" -}}
{{- $defaults := .Files.Get "files/reference.yaml" | fromYaml -}}
{{- mergeOverwrite (omit $defaults "mapping" "destinations") (deepCopy .Values.config) | toJson -}}
{{- end -}}

{{/* Numbers of the values reach Helm as floats: whole ones are written whole. */}}
{{- define "order-sync.plain" -}}
{{- if kindIs "map" . -}}
{ {{- range $i, $key := keys . | sortAlpha }}{{ if $i }}, {{ end }}{{ $key | quote }}: {{ include "order-sync.plain" (index $ $key) }}{{ end -}} }
{{- else if kindIs "float64" . -}}
{{- if eq . (floor .) }}{{ int64 . }}{{ else }}{{ . | toJson }}{{ end -}}
{{- else -}}
{{- . | toJson -}}
{{- end -}}
{{- end -}}

{{- define "order-sync.settings" -}}
{{- range $section := keys . | sortAlpha }}
{{ $section }}: {{ include "order-sync.plain" (index $ $section) }}
{{- end }}
{{- end -}}

{{/* settings.yaml and, where the schema belongs to another role, migrate.yaml. */}}
{{- define "order-sync.settingsFiles" -}}
{{- $mapping := dict "mapping" (printf "/etc/order-sync/mapping/%s" .Values.mapping.key) -}}
settings.yaml: |
  {{- include "order-sync.settings" (merge (deepCopy $mapping) .Values.config) | indent 2 }}
{{- if and .Values.migrate.enabled .Values.migrate.dsn }}
{{- $config := deepCopy .Values.config }}
{{- $postgres := default dict $config.postgres }}
{{- $_ := set $postgres "dsn" .Values.migrate.dsn }}
{{- $_ := set $postgres "password_env" (ternary (include "order-sync.migrateVariable" .) nil (ne .Values.migrate.passwordSecret.name "")) }}
{{- $_ := set $config "postgres" $postgres }}
migrate.yaml: |
  {{- include "order-sync.settings" (merge (deepCopy $mapping) $config) | indent 2 }}
{{- end }}
{{- end -}}

{{- define "order-sync.job" -}}
{{- .Values.monitoring.job | default (printf "%s/%s" .Release.Namespace (include "order-sync.fullname" .)) -}}
{{- end -}}

{{/* What every container of ours shares. */}}
{{- define "order-sync.container" -}}
image: {{ include "order-sync.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  capabilities:
    drop: [ALL]
  readOnlyRootFilesystem: true
  runAsNonRoot: true
resources: {{- toYaml .Values.resources | nindent 2 }}
{{- end -}}

{{- define "order-sync.env" -}}
- name: ORDER_SYNC_CONFIG
  value: /etc/order-sync/settings/settings.yaml
{{- range $name := keys .Values.secrets | sortAlpha }}
- name: {{ $name }}_FILE
  value: /var/run/secrets/order-sync/{{ $name }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* As env, for `migrate`: with migrate.dsn the variable of the database's password is that role's. */}}
{{- define "order-sync.migrateEnv" -}}
{{- if .Values.migrate.dsn -}}
{{- $variable := include "order-sync.migrateVariable" . -}}
{{- include "order-sync.env" (dict "Values" (dict "secrets" (omit .Values.secrets $variable) "extraEnv" .Values.extraEnv)) -}}
{{- if .Values.migrate.passwordSecret.name }}
- name: {{ $variable }}_FILE
  value: /var/run/secrets/order-sync-migrate/{{ .Values.migrate.passwordSecret.key }}
{{- end }}
{{- else -}}
{{- include "order-sync.env" . -}}
{{- end -}}
{{- end -}}

{{- define "order-sync.migrateVariable" -}}
{{- dig "postgres" "password_env" nil .Values.config | default "ORDER_SYNC_POSTGRES_PASSWORD" -}}
{{- end -}}

{{- define "order-sync.mounts" -}}
- name: settings
  mountPath: /etc/order-sync/settings
  readOnly: true
- name: mapping
  mountPath: /etc/order-sync/mapping
  readOnly: true
- name: tmp
  mountPath: /tmp
{{- if .Values.secrets }}
- name: secrets
  mountPath: /var/run/secrets/order-sync
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}
