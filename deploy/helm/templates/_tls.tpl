{{/* TLS between nodes. An init container issues each pod its certificate from the CA's Secret; while the pod runs, the certificate is
     renewed through the controllers, which alone keep the CA's key mounted. */}}
{{- define "hearth.caSecret" -}}
{{- .Values.tls.caSecretName | default (printf "%s-ca" (include "hearth.fullname" .)) -}}
{{- end -}}

{{/* The [tls] section, from (dict "root" $ "role" ..). */}}
{{- define "hearth.tls" -}}
{{- $tls := dict "mode" "off" -}}
{{- if .root.Values.tls.enabled -}}
{{- $tls = dict "mode" "on" "dir" "/etc/hearth/tls" -}}
{{- if eq .role "controller" -}}
{{- $tls = merge $tls (dict "ca" "/etc/hearth/ca/ca.pem" "ca_key" "/etc/hearth/ca/ca.key") -}}
{{- end -}}
{{- end -}}
{{- $tls | toJson -}}
{{- end -}}

{{/* The init container, from the same with "base". It must run as the user of the node's container: the key is for its eyes only. */}}
{{- define "hearth.certify" -}}
name: certify
image: {{ include "hearth.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
command: [sh, /etc/hearth/template/certify.sh, {{ .role }}, /etc/hearth/ca, /etc/hearth/tls]
env:
  - name: POD_NAME
    valueFrom: {fieldRef: {fieldPath: metadata.name}}
  - name: NODE_ID_BASE
    value: {{ .base | quote }}
  - name: CLUSTER_ID
    value: {{ include "hearth.clusterId" .root | quote }}
resources:
  requests: {cpu: 10m, memory: 16Mi}
securityContext:
  {{- include "hearth.unprivileged" .root | nindent 2 }}
volumeMounts:
  - {name: template, mountPath: /etc/hearth/template}
  - {name: ca, mountPath: /etc/hearth/ca, readOnly: true}
  - {name: tls, mountPath: /etc/hearth/tls}
{{- end -}}

{{- define "hearth.tlsMounts" -}}
- {name: tls, mountPath: /etc/hearth/tls}
{{- if eq .role "controller" }}
- {name: ca, mountPath: /etc/hearth/ca, readOnly: true}
{{- end }}
{{- end -}}

{{- define "hearth.tlsVolumes" -}}
- name: tls
  emptyDir: {medium: Memory, sizeLimit: 1Mi}
- name: ca
  secret:
    secretName: {{ include "hearth.caSecret" .root }}
    defaultMode: 0440
{{- end -}}
