# Sourced by both NATS peers: starts a nats-server with WebSocket, and sets `port` to its WebSocket's port and `client` to
# that of its own protocol.

directory=$(mktemp -d)
trap 'kill "$nats" 2>/dev/null || true; wait "$nats" || true; rm -rf "$directory"; exit 0' TERM INT

# start_nats MORE_CONFIGURATION
start_nats() {
    cat >"$directory/nats.conf" <<EOF
host: 127.0.0.1
port: -1
ports_file_dir: "$directory"
websocket { host: 127.0.0.1, port: $(($1 == 0 ? -1 : $1)), no_tls: true, compression: false }
max_connections: 1000000
$2
EOF
    nats-server --config "$directory/nats.conf" --log "$directory/log" &
    nats=$!
    until ports=$(cat "$directory"/*.ports 2>/dev/null) && [ -n "$ports" ]; do
        kill -0 "$nats" 2>/dev/null || { cat "$directory/log" >&2; rm -rf "$directory"; exit 1; }
        sleep 0.05
    done
    port=$(sed -n 's/.*"ws:\/\/[^"]*:\([0-9]*\)".*/\1/p' <<<"$ports")
    client=$(sed -n 's/.*"nats:\/\/[^"]*:\([0-9]*\)".*/\1/p' <<<"$ports")
}
