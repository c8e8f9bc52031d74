#!/bin/sh
# Runs the stack of docker-compose.yml:
#
#   scripts/stack.sh env [FILE]    write FILE, by default .env, with random secrets, unless it exists
#   scripts/stack.sh up            the same, then build and start everything, and say where it is
#   scripts/stack.sh chat          print the address of the page and a token for it
#   scripts/stack.sh down          stop everything; the data stays
set -eu
cd "$(dirname "$0")/.."

secret() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }

write_env() {
    [ ! -e "$1" ] || return 0
    (umask 077 && while IFS= read -r line; do
        case $line in
        \#* | '') echo "$line" ;;
        *=) echo "$line$(secret)" ;;
        *) echo "$line" ;;
        esac
    done <.env.example >"$1.new")
    mv "$1.new" "$1"
    echo "Wrote $1 with new secrets."
}

compose() {
    docker compose version >/dev/null 2>&1 || {
        echo "docker compose is missing: see https://docs.docker.com/compose/install/" >&2
        exit 1
    }
    docker compose "$@"
}

chat() {
    port=$(compose port nginx 8080)
    echo "Open http://127.0.0.1:${port##*:}/ and paste this token, which is valid for 12 hours:"
    compose exec -T roomlog-1 roomlog token --user "${USER:-me}" --room '*=read,write' --ttl 12h
}

case ${1:-} in
env) write_env "${2:-.env}" ;;
up)
    compose version >/dev/null
    write_env .env
    compose up --build --detach --wait
    echo
    echo "Dashboards: http://127.0.0.1:3000   Prometheus: http://127.0.0.1:9090   Secrets: .env"
    chat
    ;;
chat) chat ;;
down) compose down ;;
*)
    sed -n 's/^#  *\(scripts\/stack.sh .*\)/\1/p' "$0" >&2
    exit 2
    ;;
esac
