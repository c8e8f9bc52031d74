"""The main dashboard: delivery, latency and early warnings."""

from panels import CLASS, NODE, above, below, board, graph, heat_of, number, quantiles, rate, row, runbook, zero

UNAVAILABLE = ',outcome="unavailable"'
# Prometheus 3 writes 1.0 where older versions keep 1.
IN_TIME = ',le=~"1|1[.]0"'


def build():
    measured = f"sum({rate('roomlog_delivery_seconds_count', CLASS)})"
    late = f"{measured} - sum({rate('roomlog_delivery_seconds_bucket', CLASS + IN_TIME)})"
    page = board("roomlog-delivery", "Roomlog: delivery",
                 "Delivery, latency and early warnings.", with_class=True)

    page.with_row(row("Delivery"))
    page.with_panel(number(
        "Ready nodes",
        "A node is ready while its own probes come back through append, pub/sub and log. If some nodes are not ready, "
        "check their logs; if none is, check Redis.",
        [(f"sum(roomlog_ready{{{NODE}}})", "ready"), (f"count(roomlog_ready{{{NODE}}})", "known")],
        thresholds=below(1)))
    page.with_panel(zero(
        "Rewinds",
        "Redis came back without confirmed messages, and readers got a gap. Check the Redis dashboard: is the append-only "
        f"file on, and was there a failover? {runbook('RoomlogRewind')}",
        f'sum(increase(roomlog_gaps_total{{{CLASS},reason="rewound"}}[$__range]))'))
    page.with_panel(zero(
        "Gaps",
        "Readers came back for messages that retention had removed. If they should have received them, let rooms keep "
        f"more (max_age), or make the subscriptions durable. {runbook('RoomlogGap')}",
        f'sum(increase(roomlog_gaps_total{{{CLASS},reason="trimmed"}}[$__range]))'))
    page.with_panel(zero(
        "Trimmed unacknowledged",
        "Messages that were deleted before a durable subscription acknowledged them: its lag exceeded twice the room's limits. "
        f"Find it in the log, and fix its consumer or delete it. {runbook('RoomlogTrimmedUnacknowledged')}",
        f"sum(increase(roomlog_trimmed_unacknowledged_total{{{CLASS}}}[$__range]))"))
    page.with_panel(zero(
        "Failed publishes",
        "Publishes that failed with `unavailable`. Clients retry them with the same key. Redis is unreachable, full, or "
        f"lacks a replica. {runbook('RoomlogPublishesFail')}",
        f'sum(increase(roomlog_publishes_total{{{CLASS},outcome="unavailable"}}[$__range]))'))
    page.with_panel(number(
        "Oldest unacknowledged message",
        "The age of the oldest message that a durable subscription has not acknowledged. It is deleted at twice the "
        f"room's limits. {runbook('RoomlogUnacknowledgedOld')}",
        [(f"max(roomlog_oldest_unacknowledged_seconds{{{CLASS}}})", "")], "s", above(3600, 86400)))

    page.with_row(row("Traffic"))
    page.with_panel(graph(
        "Confirmed publishes per second, by room class",
        "Messages that Redis stored and that were confirmed to their senders. A sudden drop while clients are connected "
        "means that publishing fails: check failed publishes and Redis.",
        [(f'sum by (class) ({rate("roomlog_publishes_total", CLASS + ",outcome=" + chr(34) + "stored" + chr(34))})',
          "{{class}}")], "ops"))
    page.with_panel(graph(
        "Deliveries per second, by room class",
        "Messages delivered to subscribers. It should follow the publishes. If it drops while publishes continue, "
        "subscribers have left, or pub/sub does not work: check lost notifications on the node dashboard.",
        [(f'sum by (class) ({rate("roomlog_deliveries_total", CLASS)})', "{{class}}")], "ops"))
    page.with_panel(graph(
        "Publishes that stored nothing new, per second",
        "`duplicate`: clients resent messages that were already stored, which is harmless; many of them show that answers "
        "get lost. `unavailable`: Redis did not confirm in time.",
        [(f'sum by (outcome) ({rate("roomlog_publishes_total", CLASS + ",outcome!=" + chr(34) + "stored" + chr(34))})',
          "{{outcome}}")], "ops"))

    page.with_row(row("Latency"))
    page.with_panel(graph(
        "From publish to confirmation",
        "The time that senders wait. If it rises, Redis is slow (its dashboard shows whether the disk is the cause) or "
        "the node is short of CPU (scheduling delay on the node dashboard).",
        quantiles("roomlog_publish_seconds", CLASS), "s", above(0.1, 1)))
    page.with_panel(graph(
        "From append to a subscriber's socket",
        "The time between storing a message and writing it to a subscriber, measured for one subscriber per message and "
        "node, in whole milliseconds. If it rises and confirmations do not, nodes are short of CPU, or their clocks "
        "differ from Redis's.",
        quantiles("roomlog_delivery_seconds", CLASS), "s", above(0.1, 1)))
    page.with_panel(graph(
        "Probes",
        "Each node sends itself a message every three seconds, through append, pub/sub and log. This shows the latency "
        "even when nobody publishes. The node dashboard shows lost probes.",
        quantiles("roomlog_canary_seconds", NODE), "s", above(0.1, 1)))
    page.with_panel(heat_of(
        "From publish to confirmation: distribution",
        "The darker a cell, the more publishes took that long. A second band above the first means that some rooms, or "
        "one of several Redis primaries, are slower than the rest.",
        "roomlog_publish_seconds", CLASS))
    page.with_panel(heat_of(
        "From append to socket: distribution",
        "The darker a cell, the more deliveries took that long. A band that rises over time means that nodes cannot keep up.",
        "roomlog_delivery_seconds", CLASS))

    page.with_row(row("Connections"))
    page.with_panel(graph(
        "Connections, by transport",
        "A sudden drop on one node means that it was restarted. On all nodes, check the proxy in front of them.",
        [(f"sum by (transport) (roomlog_connections{{{NODE}}})", "{{transport}}")], stacked=True))
    page.with_panel(graph(
        "Closed connections per second, by close code",
        "`normal`: the client left. Many `no_pong`: networks drop connections silently. `token_expired`: clients do not "
        "renew their tokens. `overloaded`: the node is full. `rate_limited` and similar: a client misbehaves.",
        [(f'sum by (code) ({rate("roomlog_connections_closed_total")}) > 0 '
          f'or sum({rate("roomlog_connections_closed_total")})', "{{code}}")], "ops"))
    page.with_panel(graph(
        "Subscriptions: live and catching up",
        "A subscription that catches up reads the log at its own pace, after a reconnect or because its client is slow. A "
        "number that stays high means that clients do not keep up, or that reading from Redis is slow.",
        [(f"sum(roomlog_subscriptions{{{NODE}}}) - sum(roomlog_subscriptions_catching_up{{{NODE}}})", "live"),
         (f"sum(roomlog_subscriptions_catching_up{{{NODE}}})", "catching up")], stacked=True))

    page.with_row(row("Early warnings"))
    page.with_panel(graph(
        "Largest lag of a durable subscription, by room class",
        "Messages that the subscription furthest behind has not acknowledged. If it only grows, its consumer is gone or too "
        f"slow. {runbook('RoomlogLagGrows')}",
        [(f"max by (class) (roomlog_subscription_lag_messages{{{CLASS}}})", "{{class}}")], thresholds=above(10000)))
    page.with_panel(graph(
        "Age of the oldest unacknowledged message, by room class",
        "If it grows as fast as time passes, a consumer has stopped. Its messages are kept up to twice the room's limits.",
        [(f"max by (class) (roomlog_oldest_unacknowledged_seconds{{{CLASS}}})", "{{class}}")], "s",
        above(3600, 86400)))
    page.with_panel(graph(
        "Full queues per second",
        "`append`: Redis is too slow, and publishes fail. `outbox`: clients read too slowly, and fall back to reading the "
        "log; nothing is lost. `in_flight`: single clients publish faster than Redis confirms, and have to wait.",
        [(f'sum by (queue) ({rate("roomlog_full_queues_total")})', "{{queue}}")], "ops"))
    page.with_panel(graph(
        "Trimmed messages per second, by room class",
        "Messages that retention removes, as configured. Steady publishes should give steady trimming.",
        [(f'sum by (class) ({rate("roomlog_trimmed_messages_total", CLASS)})', "{{class}}")], "ops"))
    page.with_panel(graph(
        "Failed publishes and late deliveries",
        "The share of publishes that fail with `unavailable` and of deliveries that take longer than a second. The error "
        f"budget is 0.1 % over 30 days; alerts fire when it burns too fast. {runbook('RoomlogErrorBudgetBurnsFast')}",
        [(f"({late} + sum({rate('roomlog_publishes_total', CLASS + UNAVAILABLE)})) / ({measured} + "
          f"sum({rate('roomlog_publishes_total', CLASS)}))", "share")], "percentunit", above(0.001, 0.0144)))
    page.with_panel(graph(
        "Use of the nodes' limits",
        "The highest use of the limits of connections, open files and memory on any node. Above 80 %, add nodes or raise "
        "the limit.",
        [(f"max(sum by (instance) (roomlog_connections{{{NODE}}}) / sum by (instance) "
          f"(roomlog_connections_limit{{{NODE}}}))", "connections"),
         (f"max(process_open_fds{{{NODE}}} / process_max_fds{{{NODE}}})", "open files"),
         (f"max(process_resident_memory_bytes{{{NODE}}} / roomlog_memory_limit_bytes{{{NODE}}})", "memory")],
        "percentunit", above(0.8, 0.9)))
    return page
