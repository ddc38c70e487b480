{{/* What pods of all roles have alike, from (dict "root" $ "role" .. "values" ..). */}}
{{- define "hearth.podSpec" -}}
serviceAccountName: {{ include "hearth.serviceAccount" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* Apart from each other, from the same and "hard". */}}
{{- define "hearth.apart" -}}
{{- if .hard -}}
podAntiAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    - topologyKey: kubernetes.io/hostname
      labelSelector:
        matchLabels:
          {{- include "hearth.roleSelector" . | nindent 10 }}
{{- else -}}
podAntiAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "hearth.roleSelector" . | nindent 12 }}
{{- end -}}
{{- end -}}

{{- define "hearth.podMeta" -}}
labels:
  {{- include "hearth.roleLabels" . | nindent 2 }}
annotations:
  checksum/config: {{ .config | sha256sum }}
  {{- with .values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* Writes the role's TOML file; "base" is the node id of pod 0. */}}
{{- define "hearth.configure" -}}
name: configure
image: {{ include "hearth.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
command: [sh, /etc/hearth/template/configure.sh, /etc/hearth/template/{{ .role }}.toml, /etc/hearth/config/{{ .role }}.toml]
env:
  - name: POD_NAME
    valueFrom: {fieldRef: {fieldPath: metadata.name}}
  - name: NODE_ID_BASE
    value: {{ .base | quote }}
resources:
  requests: {cpu: 10m, memory: 16Mi}
securityContext:
  {{- include "hearth.unprivileged" . | nindent 2 }}
volumeMounts:
  - {name: template, mountPath: /etc/hearth/template}
  - {name: config, mountPath: /etc/hearth/config}
{{- end -}}

{{- define "hearth.configVolumes" -}}
- name: template
  configMap:
    name: {{ include "hearth.roleName" . }}
- name: config
  emptyDir: {sizeLimit: 1Mi}
{{- end -}}

{{- define "hearth.unprivileged" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* For pods whose processes need nothing of root's. */}}
{{- define "hearth.nobody" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
{{- end -}}

{{- define "hearth.container" -}}
name: {{ .role }}
image: {{ include "hearth.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
command: [hearth, {{ .role }}, --config, /etc/hearth/config/{{ .role }}.toml]
readinessProbe:
  httpGet: {path: /readyz, port: admin}
  periodSeconds: 2
  timeoutSeconds: 2
livenessProbe:
  httpGet: {path: /healthz, port: admin}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- /* Taking up a long log or many leftovers may come before the admin port. */}}
startupProbe:
  httpGet: {path: /healthz, port: admin}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 150
{{- end -}}

{{- define "hearth.claim" -}}
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {{ .name }}
spec:
  accessModes: [ReadWriteOnce]
  {{- with .storage.storageClassName }}
  storageClassName: {{ . }}
  {{- end }}
  resources:
    requests:
      storage: {{ .storage.size }}
{{- end -}}

{{- define "hearth.headless" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "hearth.roleName" . }}
  labels:
    {{- include "hearth.roleLabels" . | nindent 4 }}
spec:
  clusterIP: None
  # Nodes find each other before they are ready: that is what makes them so.
  publishNotReadyAddresses: true
  selector:
    {{- include "hearth.roleSelector" . | nindent 4 }}
  ports:
    - {name: {{ .portName }}, port: {{ .port }}, targetPort: {{ .portName }}}
{{- end -}}

{{- define "hearth.budget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "hearth.roleName" . }}
  labels:
    {{- include "hearth.roleLabels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      {{- include "hearth.roleSelector" . | nindent 6 }}
{{- end -}}
