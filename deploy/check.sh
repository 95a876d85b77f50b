#!/bin/bash
# Asks the tools that will read the files of this folder whether they can: systemd, Kubernetes' schemas, Compose, a linter for
# the container file, promtool. What it needs of PyPI, npm and Debian's archive goes into target/tools.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=$PWD/target/tools
work=$(mktemp -d "${TMPDIR:-/tmp}/tidegate-deploy-XXXXXX")
trap 'rm -rf "$work"' EXIT

[ -x "$tools/python/bin/pip" ] || python3 -m venv "$tools/python"
[ -x "$tools/python/bin/kubernetes-validate" ] || "$tools/python/bin/pip" install --quiet kubernetes-validate==1.37.0
[ -x "$tools/node_modules/.bin/dockerfilelint" ] || npm install --silent --no-audit --no-fund --prefix "$tools" dockerfilelint@1.8.0

# The unit names a binary that is not installed here.
mkdir "$work/units"
sed 's|^ExecStart=/usr/local/bin/tidegate|ExecStart=/bin/true|' deploy/tidegate.service > "$work/units/tidegate.service"
systemd-analyze verify --man=no "$work/units/tidegate.service"
exposure=$(systemd-analyze security --offline=true "$work/units/tidegate.service" | tail -1)
grep -qE 'OK|SAFE' <<<"$exposure" || { echo "deploy: the unit is open: $exposure" >&2; exit 1; }

"$tools/python/bin/kubernetes-validate" -k 1.31 --strict deploy/kubernetes/*.yaml
docker-compose -f deploy/compose.yaml config --quiet
"$tools/node_modules/.bin/dockerfilelint" deploy/Containerfile

# Debian's package would start a server: only the tool is taken out of it.
promtool=$(command -v promtool || echo "$tools/prometheus/usr/bin/promtool")
if [ ! -x "$promtool" ]; then
  (cd "$work" && apt-get download -qq prometheus)
  mkdir -p "$tools/prometheus"
  dpkg -x "$work"/prometheus_*.deb "$tools/prometheus"
fi
"$promtool" check rules deploy/prometheus/tidegate.rules.yml >/dev/null
"$promtool" test rules deploy/prometheus/tidegate.rules.test.yml >/dev/null
jq empty deploy/grafana/tidegate.json
echo "deploy: unit, manifests, compose, container file, alert rules and dashboard are well-formed"
