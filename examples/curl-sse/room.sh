#!/bin/sh
# A room in a shell, using only curl: publish with POST, follow with Server-Sent Events.
#
#   room.sh publish ROOM JSON            prints the id of the message once it is stored
#   room.sh follow ROOM [POSITION-FILE]  prints new messages, one per line; with a file, resumes from its last position
#
# ROOMLOG_URL is the server's URL, and ROOMLOG_TOKEN a token: `make run` prints both.
set -eu

usage() { sed -n 's/^#   //p' "$0" >&2; exit 2; }
[ "$#" -ge 2 ] || usage
: "${ROOMLOG_URL:=http://127.0.0.1:8080}" "${ROOMLOG_TOKEN:?is not set: use a token, such as the one that make run prints}"
auth="Authorization: Bearer $ROOMLOG_TOKEN"
room=$ROOMLOG_URL/v1/rooms/$2

# The key makes retries safe: the message is stored once, however often it is sent.
publish() {
    key=$(cat /proc/sys/kernel/random/uuid)
    curl -sS --fail-with-body --retry 10 --retry-all-errors --retry-max-time 60 -H "$auth" -H "Idempotency-Key: $key" \
        -H 'Content-Type: application/json' -d "{\"data\": $1}" "$room/messages" |
        sed 's/.*"id":"\([^"]*\)".*/\1/'
}

# Reads one stream of events to its end, and saves the position after each message, so that the next stream resumes there.
read_events() {
    id='' event=''
    while IFS= read -r line; do
        case $line in
        'id: '*) id=${line#id: } ;;
        'event: '*) event=${line#event: } ;;
        'data: '*)
            # Only messages have an id. Other events, such as a gap, which reports missing messages, go to standard error.
            if [ -z "$id" ]; then echo "$event: ${line#data: }" >&2; else printf '%s\n' "${line#data: }"; fi
            ;;
        '')
            if [ -n "$id" ]; then
                last=$id
                if [ -n "$1" ]; then printf '%s\n' "$id" >"$1.new" && mv "$1.new" "$1"; fi
            elif [ "$event" = unsubscribed ]; then
                exit 1
            fi
            id='' event=''
            ;;
        esac
    done
}

follow() {
    file=${1:-}
    if [ -n "$file" ] && [ -e "$file" ]; then
        last=$(cat "$file")
    else
        # Starts after the newest message. From here on, there is a position, and no message is missed.
        last=$(curl -sS --fail-with-body --retry 10 --retry-all-errors -H "$auth" "$room/messages?order=desc&limit=1" |
            sed -n 's/.*"head":"\([^"]*\)".*/\1/p')
        [ -n "$last" ] || exit 1
        if [ -n "$file" ]; then printf '%s\n' "$last" >"$file"; fi
    fi
    events=$(mktemp -u)
    mkfifo "$events"
    trap 'rm -f "$events"; kill "${curl:-}" 2>/dev/null || true' EXIT
    trap 'exit 130' INT TERM
    while :; do
        # The server sends a comment every 15 s, so a silent connection is dead.
        curl -sSN --fail --speed-limit 1 --speed-time 40 -H "$auth" -H "Last-Event-ID: $last" "$room/events" >"$events" &
        curl=$!
        read_events "$file" <"$events"
        failure=0
        wait "$curl" || failure=$?
        # 22 is an HTTP error, which may be temporary. Other codes mean that the server is unreachable.
        if [ "$failure" -eq 22 ]; then echo "room.sh: the server returned an error; retrying" >&2; fi
        sleep "$(awk 'BEGIN { srand(); print 0.2 + rand() }')"
    done
}

case $1 in
publish) [ "$#" -eq 3 ] || usage; publish "$3" ;;
follow) follow "${3:-}" ;;
*) usage ;;
esac
