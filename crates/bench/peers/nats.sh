# Sourced by both NATS peers: starts a nats-server with WebSocket, and sets `port` to its WebSocket's port and `client` to
# that of its own protocol.

directory=$(mktemp -d)
nats=
trap '[ -z "$nats" ] || kill "$nats" 2>/dev/null || true; wait; rm -rf "$directory"' EXIT
trap 'exit 0' TERM INT

# start_nats MORE_CONFIGURATION
start_nats() {
    cat >"$directory/nats.conf" <<EOF
host: 127.0.0.1
port: -1
ports_file_dir: "$directory"
websocket { host: 127.0.0.1, port: $((${PORT:-0} == 0 ? -1 : PORT)), no_tls: true, compression: false }
max_connections: 1000000
$1
EOF
    nats-server --config "$directory/nats.conf" --log "$directory/log" &
    nats=$!
    until ports=$(cat "$directory"/*.ports 2>/dev/null) && [ -n "$ports" ]; do
        kill -0 "$nats" 2>/dev/null || { cat "$directory/log" >&2; exit 1; }
        sleep 0.05
    done
    port=$(port_of websocket)
    client=$(port_of nats)
}

# The port of one of what the server listens for: the file is {"nats":["nats://127.0.0.1:1"],"websocket":["ws://127.0.0.1:2"]}.
port_of() {
    sed -n "s/.*\"$1\":\[\"[^\"]*:\([0-9]*\)\".*/\1/p" <<<"$ports"
}
