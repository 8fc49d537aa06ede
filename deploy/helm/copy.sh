#!/usr/bin/env bash
# Copies into the charts what has no values, from where it is kept: Helm takes nothing from outside of a chart, and Fleet
# follows no symbolic links. A test compares.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

copy() { # FOLDER FILE...
  local folder=$1; shift
  rm -rf "$folder" && mkdir -p "$folder" && cp "$@" "$folder/"
}
copy helm/linkspan/files/member member/{admission,controller-rbac,dns-rbac,node-rbac,quota,roles}.yaml
copy helm/linkspan-crds/files crds/*_*.yaml
copy helm/linkspan-broker/files broker/{namespace,policy-claims,policy-joining,policy-ownership,policy-tokens,quota,rbac}.yaml
copy helm/linkspan/files/observability observability/{podmonitor,servicemonitor,prometheusrule}.yaml
copy helm/linkspan/files/observability/dashboards observability/dashboards/*.json
