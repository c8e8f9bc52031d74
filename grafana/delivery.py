"""The home page: whether messages reach people, how fast, and what is about to go wrong."""

from panels import CLASS, NODE, above, below, board, graph, heat_of, number, quantiles, rate, row, zero

RUNBOOK = "See docs/runbook.md"


def build():
    page = board("roomlog-delivery", "Roomlog: delivery",
                 "Whether messages reach people, how fast, and what is about to go wrong.", with_class=True)

    page.with_row(row("Do messages reach people?"))
    page.with_panel(number(
        "Nodes that are ready",
        "A node is ready while its own probe comes back through append, bell and log. If fewer are ready than are known, "
        "look at the log of the one that is missing, and at Redis if it is all of them.",
        [(f"sum(roomlog_ready{{{NODE}}})", "ready"), (f"count(roomlog_ready{{{NODE}}})", "known")],
        thresholds=below(1)))
    page.with_panel(zero(
        "Rewinds",
        "Redis came back without messages that were confirmed, and readers were told so. Look at the Redis dashboard: is the "
        f"append-only file on, and was there a failover? {RUNBOOK}#roomlogrewind.",
        f'sum(increase(roomlog_gaps_total{{{CLASS},reason="rewound"}}[$__range]))'))
    page.with_panel(zero(
        "Gaps",
        "Readers came back for messages that retention had removed. If they should have had them, let rooms keep more "
        f"(max_age), or make their subscriptions durable. {RUNBOOK}#roomloggap.",
        f'sum(increase(roomlog_gaps_total{{{CLASS},reason="trimmed"}}[$__range]))'))
    page.with_panel(zero(
        "Trimmed unacknowledged",
        "Messages that went before a durable subscription had acknowledged them: it was behind by twice what its room keeps. "
        f"Find it in the log, and fix its reader or delete it. {RUNBOOK}#roomlogtrimmedunacknowledged.",
        f"sum(increase(roomlog_trimmed_unacknowledged_total{{{CLASS}}}[$__range]))"))
    page.with_panel(zero(
        "Refused publishes",
        "Publishes that were answered `unavailable`. Clients send them again with the same key. Redis is away, full, or lacks "
        f"a replica. {RUNBOOK}#roomlogpublishesfail.",
        f'sum(increase(roomlog_publishes_total{{{CLASS},outcome="unavailable"}}[$__range]))'))
    page.with_panel(number(
        "Oldest unacknowledged message",
        "How long the oldest message has waited for a durable subscription to acknowledge it. When it is as old as twice "
        f"what its room keeps, it goes. {RUNBOOK}#roomlogunacknowledgedold.",
        [(f"max(roomlog_oldest_unacknowledged_seconds{{{CLASS}}})", "")], "s", above(3600, 86400)))

    page.with_row(row("How much"))
    page.with_panel(graph(
        "Confirmed publishes a second, by room class",
        "Messages that Redis took, and that were confirmed to their senders. A sudden fall while clients are connected means "
        "that publishing fails: look at refused publishes and at Redis.",
        [(f'sum by (class) ({rate("roomlog_publishes_total", CLASS + ",outcome=" + chr(34) + "stored" + chr(34))})',
          "{{class}}")], "ops"))
    page.with_panel(graph(
        "Deliveries a second, by room class",
        "Messages handed to subscribers. It should follow the publishes. If it falls while publishes go on, subscribers have "
        "gone, or the bell is deaf: look at holes on the node dashboard.",
        [(f'sum by (class) ({rate("roomlog_deliveries_total", CLASS)})', "{{class}}")], "ops"))
    page.with_panel(graph(
        "Publishes that stored nothing new, a second",
        "`duplicate`: clients sent again what was stored already, which is harmless, and many show that answers get lost. "
        "`unavailable`: Redis did not confirm in time.",
        [(f'sum by (outcome) ({rate("roomlog_publishes_total", CLASS + ",outcome!=" + chr(34) + "stored" + chr(34))})',
          "{{outcome}}")], "ops"))

    page.with_row(row("How fast"))
    page.with_panel(graph(
        "From publish to confirmation",
        "What senders wait for. If it rises, Redis is slow (its dashboard says whether it is the disk) or the node is short of "
        "CPU (task delay on the node dashboard).",
        quantiles("roomlog_publish_seconds", CLASS), "s", above(0.1, 1)))
    page.with_panel(graph(
        "From append to a subscriber's socket",
        "What readers wait for after a message was stored; one subscriber of each message and node is measured, in whole "
        "milliseconds. If it rises and confirmations do not, nodes are short of CPU, or their clock differs from Redis's.",
        quantiles("roomlog_delivery_seconds", CLASS), "s", above(0.1, 1)))
    page.with_panel(graph(
        "The nodes' own probes",
        "Each node sends itself a message every three seconds, through append, bell and log. It shows how fast that is also "
        "while nobody publishes. Those that were lost are on the node dashboard.",
        quantiles("roomlog_canary_seconds", NODE), "s", above(0.1, 1)))
    page.with_panel(heat_of(
        "Publish to confirmation: all of them",
        "Each column is a moment; the darker a cell, the more publishes took that long. A second band above the first means "
        "that some rooms, or one of several Redis primaries, are slower than the rest.",
        "roomlog_publish_seconds", CLASS))
    page.with_panel(heat_of(
        "Append to socket: all of them",
        "Each column is a moment; the darker a cell, the more deliveries took that long. A band that rises with time means "
        "that nodes cannot keep up.",
        "roomlog_delivery_seconds", CLASS))

    page.with_row(row("Who is connected"))
    page.with_panel(graph(
        "Connections, by transport",
        "If it drops at once on one node, that node was restarted; if on all, look at the proxy before them.",
        [(f"sum by (transport) (roomlog_connections{{{NODE}}})", "{{transport}}")], stacked=True))
    page.with_panel(graph(
        "Connections that ended, by close code",
        "`normal`: the client left. Many `no_pong`: networks lose connections without a sign. `token_expired`: clients do not "
        "renew. `overloaded`: this node is full. `rate_limited` and the like: one client misbehaves.",
        [(f'sum by (code) ({rate("roomlog_connections_closed_total")}) > 0 '
          f'or sum({rate("roomlog_connections_closed_total")})', "{{code}}")], "ops"))
    page.with_panel(graph(
        "Subscriptions: live, and catching up",
        "Those that catch up read the log at their own pace, after a reconnect or because their client is slow. A number that "
        "stays high means clients that do not keep up, or a Redis that is slow to read.",
        [(f"sum(roomlog_subscriptions{{{NODE}}}) - sum(roomlog_subscriptions_catching_up{{{NODE}}})", "live"),
         (f"sum(roomlog_subscriptions_catching_up{{{NODE}}})", "catching up")], stacked=True))

    page.with_row(row("What is about to go wrong"))
    page.with_panel(graph(
        "Largest lag of a durable subscription, by room class",
        "Messages that the subscription furthest behind has not acknowledged. If it only grows, its reader is gone or too slow: "
        f"{RUNBOOK}#roomloglaggrows.",
        [(f"max by (class) (roomlog_subscription_lag_messages{{{CLASS}}})", "{{class}}")], thresholds=above(10000)))
    page.with_panel(graph(
        "Age of the oldest unacknowledged message, by room class",
        "If it grows as fast as time goes, one reader has stopped. Messages stay for it up to twice what the room keeps.",
        [(f"max by (class) (roomlog_oldest_unacknowledged_seconds{{{CLASS}}})", "{{class}}")], "s",
        above(3600, 86400)))
    page.with_panel(graph(
        "Full queues a second",
        "`append`: Redis is too slow, publishes fail. `outbox`: clients read too slowly, and fall back to reading the log; "
        "nothing is lost. `in_flight`: single clients publish faster than Redis confirms, and wait.",
        [(f'sum by (queue) ({rate("roomlog_full_queues_total")})', "{{queue}}")], "ops"))
    page.with_panel(graph(
        "Messages trimmed a second, by room class",
        "What retention removes, as configured. It should be steady where publishes are.",
        [(f'sum by (class) ({rate("roomlog_trimmed_messages_total", CLASS)})', "{{class}}")], "ops", width=12))
    page.with_panel(graph(
        "How near the nodes are to their bounds",
        "The node nearest to its limit of connections, of open files and of memory. Above 80 % add nodes, or raise the limit.",
        [(f"max(sum by (instance) (roomlog_connections{{{NODE}}}) / sum by (instance) "
          f"(roomlog_connections_limit{{{NODE}}}))", "connections"),
         (f"max(process_open_fds{{{NODE}}} / process_max_fds{{{NODE}}})", "open files"),
         (f"max(process_resident_memory_bytes{{{NODE}}} / roomlog_memory_limit_bytes{{{NODE}}})", "memory")],
        "percentunit", above(0.8, 0.9), width=12))
    return page
