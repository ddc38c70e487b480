{{/* Names and labels. Names are cut so that "<fullname>-controller-<revision hash>" fits a label. */}}
{{- define "hearth.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "hearth.fullname" -}}
{{- $name := .Values.fullnameOverride -}}
{{- if not $name -}}
{{- $base := .Values.nameOverride | default .Chart.Name -}}
{{- $name = ternary .Release.Name (printf "%s-%s" .Release.Name $base) (contains $base .Release.Name) -}}
{{- end -}}
{{- $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Part of the name of cgroups on the host, "<cluster id>-<node id>", which has at most 64 characters. */}}
{{- define "hearth.clusterId" -}}
{{- $id := .Values.clusterId | default (printf "%s-%s" .Release.Namespace (include "hearth.fullname" .)) -}}
{{- if gt (len $id) 56 -}}
{{- $id = printf "%s-%s" ($id | trunc 47) ($id | sha256sum | trunc 8) -}}
{{- end -}}
{{- $id -}}
{{- end -}}

{{- define "hearth.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "hearth.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "hearth.secret" -}}
{{- .Values.credentials.existingSecret | default (printf "%s-root" (include "hearth.fullname" .)) -}}
{{- end -}}

{{- define "hearth.image" -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}

{{- define "hearth.selector" -}}
app.kubernetes.io/name: {{ include "hearth.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "hearth.labels" -}}
{{ include "hearth.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* Of (dict "root" $ "role" "worker"). */}}
{{- define "hearth.roleSelector" -}}
{{ include "hearth.selector" .root }}
app.kubernetes.io/component: {{ .role }}
{{- end -}}

{{- define "hearth.roleLabels" -}}
{{ include "hearth.labels" .root }}
app.kubernetes.io/component: {{ .role }}
{{- end -}}

{{- define "hearth.roleName" -}}
{{ include "hearth.fullname" .root }}-{{ .role }}
{{- end -}}

{{/* DNS domain of a role's pods. */}}
{{- define "hearth.roleDomain" -}}
{{ include "hearth.roleName" . }}.{{ .root.Release.Namespace }}.svc.{{ .root.Values.clusterDomain }}
{{- end -}}

{{- define "hearth.controllerHost" -}}
{{- $role := dict "root" .root "role" "controller" -}}
{{ include "hearth.roleName" $role }}-{{ .ordinal }}.{{ include "hearth.roleDomain" $role }}:7400
{{- end -}}
