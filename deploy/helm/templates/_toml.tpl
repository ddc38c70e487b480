{{/* Options as TOML, from (dict "path" "" "table" $map). Helm's toToml would write every number of the values as a float, which
     integer options refuse. Scalars come first: after a table's header they would belong to that table. */}}
{{- define "hearth.toml" -}}
{{- $path := .path -}}
{{- range $key, $value := .table }}
{{- if not (kindIs "map" $value) }}
{{ include "hearth.tomlKey" $key }} = {{ include "hearth.tomlValue" $value }}
{{- end }}
{{- end }}
{{- range $key, $value := .table }}
{{- if kindIs "map" $value }}
{{- $inner := printf "%s%s" (ternary "" (printf "%s." $path) (eq $path "")) (include "hearth.tomlKey" $key) }}

[{{ $inner }}]
{{- include "hearth.toml" (dict "path" $inner "table" $value) }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "hearth.tomlKey" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . }}{{ . }}{{ else }}{{ . | toRawJson }}{{ end -}}
{{- end -}}

{{- define "hearth.tomlValue" -}}
{{- if kindIs "string" . -}}
{{- . | toRawJson -}}
{{- else if kindIs "float64" . -}}
{{- if eq . (floor .) }}{{ int64 . }}{{ else }}{{ . }}{{ end -}}
{{- else if kindIs "slice" . -}}
[{{ range $i, $item := . }}{{ if $i }}, {{ end }}{{ include "hearth.tomlValue" $item }}{{ end }}]
{{- else if kindIs "invalid" . -}}
{{- fail "an option is null: leave it out instead" -}}
{{- else -}}
{{- . -}}
{{- end -}}
{{- end -}}

{{/* Logs and traces, the same for every role. */}}
{{- define "hearth.telemetry" -}}
{{- $telemetry := dict "log_format" "json" "log_filter" .Values.telemetry.logFilter -}}
{{- with .Values.telemetry.otlpEndpoint }}{{ $_ := set $telemetry "otlp_endpoint" . }}{{ end -}}
{{- $telemetry | toJson -}}
{{- end -}}

{{- define "hearth.controllers" -}}
{{- $root := . -}}
{{- $hosts := list -}}
{{- range $ordinal := until (int .Values.controller.replicas) -}}
{{- $hosts = append $hosts (include "hearth.controllerHost" (dict "root" $root "ordinal" $ordinal)) -}}
{{- end -}}
{{- $hosts | toJson -}}
{{- end -}}

{{/* The ConfigMap of a role, from (dict "root" $ "role" .. "head" .. "options" ..): its TOML file as a template, and what
     completes it in the pod. `head` has the lines that differ from pod to pod. */}}
{{- define "hearth.config" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "hearth.roleName" . }}
  labels:
    {{- include "hearth.roleLabels" . | nindent 4 }}
data:
  configure.sh: |
    # configure.sh TEMPLATE TARGET: fills in what the pod's name says.
    set -eu
    ordinal="${POD_NAME##*-}"
    sed -e "s/@NODE_ID@/$((NODE_ID_BASE + ordinal))/" -e "s/@POD_NAME@/$POD_NAME/" "$1" > "$2"
  certify.sh: |
    # certify.sh ROLE CA_DIR TARGET_DIR: the pod's certificate, in the name that its TOML file gives it.
    set -eu
    exec hearth ca issue --ca "$2" --cluster-id "$CLUSTER_ID" --role "$1" --id "$((NODE_ID_BASE + ${POD_NAME##*-}))" --out "$3"
  {{ .role }}.toml: |
    {{- .head | nindent 4 }}
    {{- include "hearth.toml" (dict "path" "" "table" .options) | trim | nindent 4 }}
{{- end -}}
