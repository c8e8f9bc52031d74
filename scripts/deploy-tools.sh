#!/bin/sh
# Installs the Python packages of deploy/requirements.txt, unless they are installed, and prints the directory of their programs.
set -eu
cd "$(dirname "$0")/.."

tools=${CARGO_TARGET_DIR:-$PWD/target}/deploy-tools
if ! cmp -s deploy/requirements.txt "$tools/requirements.txt"; then
    scripts/install-deps.sh python
    rm -rf "$tools"
    python3 -m venv "$tools"
    "$tools/bin/pip" --quiet --disable-pip-version-check install --requirement deploy/requirements.txt >&2
    cp deploy/requirements.txt "$tools/requirements.txt"
fi
cd "$tools/bin" && pwd
