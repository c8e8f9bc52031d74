#!/bin/sh
# A room from a shell, with nothing but curl: publish to it by POST, follow it by Server-Sent Events.
#
#   room.sh publish ROOM JSON            prints the id of the message, once it is stored
#   room.sh follow ROOM [POSITION-FILE]  prints new messages, one a line; with a file, goes on where it was the last time
#
# ROOMLOG_URL is the server's address, ROOMLOG_TOKEN a token: `make run` prints both.
set -eu

usage() { sed -n 's/^#   //p' "$0" >&2; exit 2; }
[ "$#" -ge 2 ] || usage
: "${ROOMLOG_URL:=http://127.0.0.1:8080}" "${ROOMLOG_TOKEN:?is not set: a token, such as make run prints}"
auth="Authorization: Bearer $ROOMLOG_TOKEN"
room=$ROOMLOG_URL/v1/rooms/$2

# The key makes it safe to try again: the message is stored once, however often it is sent.
publish() {
    key=$(cat /proc/sys/kernel/random/uuid)
    curl -sS --fail-with-body --retry 10 --retry-all-errors --retry-max-time 60 -H "$auth" -H "Idempotency-Key: $key" \
        -H 'Content-Type: application/json' -d "{\"data\": $1}" "$room/messages" |
        sed 's/.*"id":"\([^"]*\)".*/\1/'
}

# Reads one stream of events to its end. What was printed is noted, so that the next stream goes on after it.
read_events() {
    id='' event=''
    while IFS= read -r line; do
        case $line in
        'id: '*) id=${line#id: } ;;
        'event: '*) event=${line#event: } ;;
        'data: '*)
            # A gap has no id: it says which messages are gone for good. So do other words of the server.
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
        # It begins with what is new: after the newest message there is. From here on it has a position, and misses nothing.
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
        # A comment comes every 15 s: a connection on which nothing comes is dead.
        curl -sSN --fail --speed-limit 1 --speed-time 40 -H "$auth" -H "Last-Event-ID: $last" "$room/events" >"$events" &
        curl=$!
        read_events "$file" <"$events"
        failure=0
        wait "$curl" || failure=$?
        # 22 is a refusal: in a while, it may go. Others are a server that is away.
        if [ "$failure" -eq 22 ]; then echo "room.sh: the server refused; trying again" >&2; fi
        sleep "$(awk 'BEGIN { srand(); print 0.2 + rand() }')"
    done
}

case $1 in
publish) [ "$#" -eq 3 ] || usage; publish "$3" ;;
follow) follow "${3:-}" ;;
*) usage ;;
esac
