"""The state and resource use of the nodes, for finding out why messages are slow."""

from panels import NODE, above, board, graph, number, quantiles, rate, row, worst_nodes, zero


def build():
    page = board("roomlog-node", "Roomlog: nodes", "State and resource use of the nodes.")

    page.with_row(row("State"))
    page.with_panel(number(
        "Version", "The running versions. There should be more than one only during an upgrade.",
        [(f"count by (version) (roomlog_build_info{{{NODE}}})", "{{version}}")], width=3))
    page.with_panel(zero(
        "Not ready",
        "Nodes without a probe that came back within ten seconds, or that are shutting down. Their logs give the reason.",
        f"count(roomlog_ready{{{NODE}}} == 0) or vector(0)", width=3))
    page.with_panel(zero(
        "Lost probes",
        "Probes that did not come back within three seconds. One may be a hiccup of Redis; after three, the node is not ready.",
        f'sum(increase(roomlog_canaries_total{{{NODE},outcome="lost"}}[$__range]))', width=3))
    page.with_panel(number(
        "Uptime", "Of the node that started last. If it is short and nobody restarted the node, it crashed: see its log.",
        [(f"min(time() - process_start_time_seconds{{{NODE}}})", "")], "s", width=3))
    page.with_panel(number(
        "Janitors", "Exactly one node trims. Without it, rooms grow past their limits.",
        [(f"sum(roomlog_janitor{{{NODE}}})", "")], thresholds=[(None, "red"), (1, "green"), (2, "red")], width=3))
    page.with_panel(zero(
        "Retention paused",
        "1 while nothing is deleted by age because Redis's clock jumped ahead. Correct the clock within the hour.",
        f"max(roomlog_retention_held{{{NODE}}})", width=3))
    page.with_panel(zero(
        "Nodes without Redis",
        "Nodes that get no answer to PING from Redis. Clients stay connected; nothing is stored meanwhile.",
        f"count(roomlog_redis_up{{{NODE}}} == 0) or vector(0)", width=3))
    page.with_panel(zero(
        "Failed key set refreshes",
        "The JWK set at auth.jwks_url could not be read. The last good one stays in force, so tokens signed with a newer "
        "key are rejected. Always 0 if no URL is configured.",
        f'sum(increase(roomlog_jwks_refreshes_total{{{NODE},outcome="failed"}}[$__range]))', width=3))
    page.with_panel(zero(
        "Embedded Redis restarts", "Its last output is in the server's log.",
        f"sum(increase(roomlog_embedded_redis_restarts_total{{{NODE}}}[$__range]))", width=3))

    page.with_row(row("Resources"))
    page.with_panel(graph(
        "CPU, in cores", "If a node uses all of its cores, messages are delayed: add nodes.",
        worst_nodes(rate("process_cpu_seconds_total")), "short"))
    page.with_panel(graph(
        "Memory", "Resident memory. Every part of it is bounded; the documentation lists the limits of all queues.",
        worst_nodes(f"process_resident_memory_bytes{{{NODE}}}"), "bytes"))
    page.with_panel(graph(
        "Memory per connection",
        "The memory of the node, divided by its connections; meaningful with many. If it grows and their number does not, "
        "clients read slowly: check the bytes that wait for clients.",
        worst_nodes(f"process_resident_memory_bytes{{{NODE}}} / on (instance) "
                    f"clamp_min(sum by (instance) (roomlog_connections{{{NODE}}}), 1)"), "bytes"))
    page.with_panel(graph(
        "Scheduling delay",
        "How late the async runtime wakes up a sleeping task. About 1 ms is due to the timer. If it grows, the node is "
        "short of CPU.",
        quantiles("roomlog_task_delay_seconds", NODE), "s", above(0.05, 0.5)))
    page.with_panel(graph(
        "Tasks",
        "All tasks, and those that wait to be scheduled. Each connection has a few. If many wait, the node is short of CPU.",
        [(f"sum(roomlog_tasks{{{NODE}}})", "all"), (f"sum(roomlog_task_queue{{{NODE}}})", "waiting")]))
    page.with_panel(graph(
        "System calls and context switches per second",
        "Reads and writes as counted by /proc/self/io, without recv and send. If they grow faster than deliveries, each "
        "write carries less.",
        [(f'sum by (kind) ({rate("roomlog_io_calls_total")})', "{{kind}}"),
         (f'sum by (kind) ({rate("roomlog_context_switches_total")})', "{{kind}} switch")], "ops"))
    page.with_panel(graph(
        "Open files",
        "The share of the limit in use. Each connection needs one file. At the limit, no connection is accepted: raise "
        "LimitNOFILE.",
        worst_nodes(f"process_open_fds{{{NODE}}} / process_max_fds{{{NODE}}}"), "percentunit", above(0.8, 0.9)))
    page.with_panel(graph(
        "Bytes per second, to and from clients", "Network traffic with clients.",
        [(f'sum({rate("roomlog_sent_bytes_total")})', "sent"),
         (f'sum({rate("roomlog_received_bytes_total")})', "received")], "Bps"))
    page.with_panel(graph(
        "Memory of recent messages", "The caches of active rooms. Together they take at most hub.ring_budget on each node.",
        worst_nodes(f"roomlog_ring_bytes{{{NODE}}}"), "bytes"))

    page.with_row(row("Queues"))
    page.with_panel(graph(
        "Messages waiting for Redis",
        "At 64 MiB on a node, publishes fail immediately. If it stays above zero, Redis is slow.",
        [(f"sum(roomlog_append_queue_messages{{{NODE}}})", "messages")]))
    page.with_panel(graph(
        "Bytes waiting for Redis and for clients",
        "When limits.outbox bytes wait for one connection, its subscriptions read the log instead; nothing is lost.",
        [(f"sum(roomlog_append_queue_bytes{{{NODE}}})", "for Redis"),
         (f"sum(roomlog_outbox_bytes{{{NODE}}})", "for clients")], "bytes"))
    page.with_panel(graph(
        "Full queues per second, by queue",
        "`append`: the publish fails. `outbox`: the subscription catches up later. `in_flight`: reading from the "
        "connection pauses.",
        [(f'sum by (queue) ({rate("roomlog_full_queues_total")})', "{{queue}}")], "ops"))

    page.with_row(row("Catching up"))
    page.with_panel(graph(
        "Deliveries per second, by source",
        "`live`: pushed on arrival. `ring`: read from memory. `redis`: read from Redis, which puts load on it. Many "
        "`redis` after reconnects mean that clients missed more than hub.ring_messages.",
        [(f'sum by (path) ({rate("roomlog_deliveries_total")})', "{{path}}")], "ops"))
    page.with_panel(graph(
        "Subscriptions that start to catch up, per second",
        "`subscribed`: clients subscribe or come back. `slow`: clients do not keep up. `behind`: the node itself was cut "
        "off for longer than its cache reaches.",
        [(f'sum by (reason) ({rate("roomlog_catch_ups_total")})', "{{reason}}")], "ops"))
    page.with_panel(graph(
        "Lost notifications per second, all repaired",
        "`bell`: a later notification revealed the loss. `check`: only the comparison of positions did, up to three "
        "seconds late; if that happens often, something blocks sharded pub/sub.",
        [(f'sum by (found_by) ({rate("roomlog_holes_total")})', "{{found_by}}")], "ops"))
    page.with_panel(graph(
        "Opened connections per second",
        "A peak after a restart or a network fault is a reconnect storm. It is served from memory; watch CPU and catching up.",
        [(f'sum by (transport) ({rate("roomlog_connections_opened_total")})', "{{transport}}")], "ops"))
    page.with_panel(graph(
        "Active rooms", "Rooms with subscribers. A node follows each of them once, however many subscribers it has.",
        worst_nodes(f"roomlog_active_rooms{{{NODE}}}")))
    page.with_panel(graph(
        "Acknowledgements, read positions and signals per second",
        "Acknowledgements and read positions are batched: nodes write far fewer than clients send.",
        [(f'sum({rate("roomlog_acks_total")})', "acknowledged"),
         (f'sum({rate("roomlog_ack_writes_total")})', "acknowledged positions written"),
         (f'sum({rate("roomlog_reads_total")})', "read"),
         (f'sum({rate("roomlog_read_writes_total")})', "read positions written"),
         (f'sum({rate("roomlog_signals_total")})', "signals delivered")], "ops"))
    return page
