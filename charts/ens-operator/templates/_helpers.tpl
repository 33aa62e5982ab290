{{- define "ens-operator.name" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* Short enough for what is put behind it: a label's value, and many a name, ends after 63 characters. */ -}}
{{- define "ens-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "ens-operator.name" .) .Release.Name -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name (include "ens-operator.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "ens-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "ens-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "ens-operator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "ens-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | replace "+" "_" | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "ens-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "ens-operator.fullname" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{- /* The reference of an image: dict "root" $ "image" .Values.image */ -}}
{{- define "ens-operator.image" -}}
{{- $registry := .root.Values.global.imageRegistry | default .image.registry | trimSuffix "/" -}}
{{- if $registry }}{{ $registry }}/{{ end }}{{ .image.repository }}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ .image.tag | default .root.Chart.AppVersion }}{{ end }}
{{- end }}

{{- /* The namespaces to work in, without repeats, as {"list": […]}; none is all. */ -}}
{{- define "ens-operator.namespaces" -}}
{{- if eq .Values.rbac.scope "namespace" }}{{ dict "list" (.Values.rbac.namespaces | uniq | sortAlpha) | toJson }}{{ else }}{"list": []}{{ end }}
{{- end }}

{{- define "ens-operator.subject" -}}
- kind: ServiceAccount
  name: {{ include "ens-operator.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}
