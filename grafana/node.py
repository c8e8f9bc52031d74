"""What a node does and takes: for the one who asks why messages are slow."""

from panels import NODE, above, board, graph, number, quantiles, rate, row, worst_nodes, zero


def build():
    page = board("roomlog-node", "Roomlog: nodes", "What the nodes do, and what they take.", with_class=False)

    page.with_row(row("State"))
    page.with_panel(number(
        "Version", "The versions that run. More than one is right only while nodes are replaced.",
        [(f"count by (version) (roomlog_build_info{{{NODE}}})", "{{version}}")], width=3))
    page.with_panel(zero(
        "Not ready", "Nodes of which no probe came back for ten seconds, or that end just now. Their logs say which.",
        f"count(roomlog_ready{{{NODE}}} == 0) or vector(0)", width=3))
    page.with_panel(zero(
        "Lost probes",
        "Probes that did not come back within three seconds. One is a hiccup of Redis; after three the node is not ready.",
        f'sum(increase(roomlog_canaries_total{{{NODE},outcome="lost"}}[$__range]))', width=3))
    page.with_panel(number(
        "Up since", "How long the node that was started last has run. If it is short and nobody started it, it died: see its log.",
        [(f"min(time() - process_start_time_seconds{{{NODE}}})", "")], "s", width=3))
    page.with_panel(number(
        "Janitors", "Exactly one node trims. Without one, rooms grow past their limits.",
        [(f"sum(roomlog_janitor{{{NODE}}})", "")], thresholds=[(None, "red"), (1, "green"), (2, "red")], width=3))
    page.with_panel(zero(
        "Retention held",
        "1 while nothing goes by age, since Redis's clock has jumped ahead. Set the clock right within the hour.",
        f"max(roomlog_retention_held{{{NODE}}})", width=3))
    page.with_panel(zero(
        "Nodes without Redis", "Nodes whose PING Redis does not answer. Clients stay connected; nothing is stored meanwhile.",
        f"count(roomlog_redis_up{{{NODE}}} == 0) or vector(0)", width=3))
    page.with_panel(zero(
        "Failed readings of the key set",
        "The JWK set at auth.jwks_url could not be read. The last good one stays in force, so tokens signed with a newer key "
        "are refused. Nothing is read where no address is configured.",
        f'sum(increase(roomlog_jwks_refreshes_total{{{NODE},outcome="failed"}}[$__range]))', width=3))
    page.with_panel(zero(
        "Embedded Redis restarted", "Its last words are in the server's log.",
        f"sum(increase(roomlog_embedded_redis_restarts_total{{{NODE}}}[$__range]))", width=3))

    page.with_row(row("What it takes"))
    page.with_panel(graph(
        "CPU, in cores", "If a node uses all of its cores, messages wait: add nodes.",
        worst_nodes(rate("process_cpu_seconds_total")), "short"))
    page.with_panel(graph(
        "Memory", "Resident memory. What each part may take is bounded; see full queues in docs/operations.md.",
        worst_nodes(f"process_resident_memory_bytes{{{NODE}}}"), "bytes"))
    page.with_panel(graph(
        "Memory for each connection",
        "All memory of the node, by its connections; meaningful with many. If it grows while their number does not, clients "
        "read slowly: look at what waits for them.",
        worst_nodes(f"process_resident_memory_bytes{{{NODE}}} / on (instance) "
                    f"clamp_min(sum by (instance) (roomlog_connections{{{NODE}}}), 1)"), "bytes"))
    page.with_panel(graph(
        "Delay of tasks",
        "How much later than its time a task was run. Some 1 ms is the timer's own. If it grows, the node is short of CPU.",
        quantiles("roomlog_task_delay_seconds", NODE), "s", above(0.05, 0.5)))
    page.with_panel(graph(
        "Tasks, and those that wait for a turn",
        "A few tasks for each connection. If many wait, the node is short of CPU.",
        [(f"sum(roomlog_tasks{{{NODE}}})", "all"), (f"sum(roomlog_task_queue{{{NODE}}})", "waiting")]))
    page.with_panel(graph(
        "System calls and context switches a second",
        "Reads and writes as /proc/self/io counts them, which leaves out what recv and send do. If they grow faster than "
        "deliveries, less is written at once.",
        [(f'sum by (kind) ({rate("roomlog_io_calls_total")})', "{{kind}}"),
         (f'sum by (kind) ({rate("roomlog_context_switches_total")})', "{{kind}} switch")], "ops"))
    page.with_panel(graph(
        "Open files", "Each connection takes one. Near the limit no more are accepted: raise LimitNOFILE.",
        worst_nodes(f"process_open_fds{{{NODE}}} / process_max_fds{{{NODE}}}"), "percentunit", above(0.8, 0.9)))
    page.with_panel(graph(
        "Bytes a second, to and from clients", "What the network must carry.",
        [(f'sum({rate("roomlog_sent_bytes_total")})', "sent"),
         (f'sum({rate("roomlog_received_bytes_total")})', "received")], "Bps"))
    page.with_panel(graph(
        "Memory of recent messages", "The rings of active rooms. Together they take at most hub.ring_budget on each node.",
        worst_nodes(f"roomlog_ring_bytes{{{NODE}}}"), "bytes"))

    page.with_row(row("Queues, and what happens when they are full"))
    page.with_panel(graph(
        "Messages that wait for Redis",
        "At 64 MiB on a node, publishes fail at once. If it stays above zero, Redis is slow.",
        [(f"sum(roomlog_append_queue_messages{{{NODE}}})", "messages")]))
    page.with_panel(graph(
        "Bytes that wait: for Redis, and for clients",
        "For clients: at limits.outbox of one connection, its subscriptions read the log instead; nothing is lost.",
        [(f"sum(roomlog_append_queue_bytes{{{NODE}}})", "for Redis"),
         (f"sum(roomlog_outbox_bytes{{{NODE}}})", "for clients")], "bytes"))
    page.with_panel(graph(
        "Full queues a second, by verdict",
        "append: the publish fails. outbox: the subscription catches up later. in_flight: the connection is not read from.",
        [(f'sum by (queue) ({rate("roomlog_full_queues_total")})', "{{queue}}")], "ops"))

    page.with_row(row("Catching up"))
    page.with_panel(graph(
        "Deliveries by where they came from",
        "`live`: pushed as they came. `ring`: read from memory. `redis`: read from Redis, which costs it. Much `redis` after a "
        "reconnect means that clients were away for longer than hub.ring_messages reach.",
        [(f'sum by (path) ({rate("roomlog_deliveries_total")})', "{{path}}")], "ops"))
    page.with_panel(graph(
        "Subscriptions that begin to catch up, a second",
        "`subscribed`: clients come (back). `slow`: clients do not keep up. `behind`: the node itself was cut off for longer "
        "than its ring reaches.",
        [(f'sum by (reason) ({rate("roomlog_catch_ups_total")})', "{{reason}}")], "ops"))
    page.with_panel(graph(
        "Lost notifications, found and repaired",
        "`bell`: a later message showed the hole. `check`: only the comparison of positions did, up to three seconds late; if "
        "that happens often, something stops sharded pub/sub on its way.",
        [(f'sum by (found_by) ({rate("roomlog_holes_total")})', "{{found_by}}")], "ops"))
    page.with_panel(graph(
        "Connections opened a second: reconnect storms",
        "A peak after a restart or a network fault is a storm. It is served from rings; watch CPU and catching up meanwhile.",
        [(f'sum by (transport) ({rate("roomlog_connections_opened_total")})', "{{transport}}")], "ops"))
    page.with_panel(graph(
        "Active rooms", "Rooms with a reader. Each is followed once on a node, however many read it there.",
        worst_nodes(f"roomlog_active_rooms{{{NODE}}}")))
    page.with_panel(graph(
        "Acknowledgements and signals a second",
        "Acknowledgements are gathered: far fewer positions are written than clients send.",
        [(f'sum({rate("roomlog_acks_total")})', "acknowledged"),
         (f'sum({rate("roomlog_ack_writes_total")})', "positions written"),
         (f'sum({rate("roomlog_signals_total")})', "signals handed over")], "ops"))
    return page
