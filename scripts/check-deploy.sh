#!/bin/sh
# Checks the files of a deployment with the programs that will read them, or their authors' schemas: dashboards, rules,
# Prometheus's and nginx's configuration, the compose file, the Dockerfile, the workflows.
#
#   scripts/check-deploy.sh            check
#   scripts/check-deploy.sh --write    write the dashboards anew first
set -eu
cd "$(dirname "$0")/.."

scripts/install-deps.sh nginx prometheus python
tools=${CARGO_TARGET_DIR:-target}/deploy-tools
if ! cmp -s grafana/requirements.txt "$tools/requirements.txt"; then
    rm -rf "$tools"
    python3 -m venv "$tools"
    "$tools/bin/pip" --quiet --disable-pip-version-check install --requirement grafana/requirements.txt
    cp grafana/requirements.txt "$tools/requirements.txt"
fi
PATH=$PWD/$tools/bin:$PATH
case $tools in /*) PATH=$tools/bin:$PATH ;; esac

if [ "${1:-}" = --write ]; then
    python grafana/build.py
fi
python grafana/build.py --check
promtool check config prometheus.yml
promtool check rules grafana/rules/*.yml
promtool test rules grafana/rules/tests/alerts.yml

check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
hadolint Dockerfile

# The names of a compose network are not known here.
trial=$(mktemp)
trap 'rm -f "$trial"' EXIT
sed 's/roomlog-[12]:8080/127.0.0.1:8080/' deploy/nginx.conf >"$trial"
nginx -t -q -e stderr -c "$trial"

# A secret that is not set must stop the stack: each has its message, and the example names it.
for variable in $(sed -n 's/.*\${\([A-Z0-9_]*\):?.*/\1/p' docker-compose.yml | sort -u); do
    grep -q "^$variable=\$" .env.example || { echo ".env.example lacks $variable, or gives it a value" >&2; exit 1; }
done
echo "deployment files: all well"
