"""Redis, which holds everything: how safe messages are in it, and how fast it is."""

from panels import NODE, above, below, board, graph, number, quantiles, rate, row, zero

FSYNC = 'event_name=~"aof-fsync.*|aof-write.*"'


def build():
    page = board("roomlog-redis", "Roomlog: Redis", "How safe messages are in Redis, and how fast it is.", with_class=False)

    page.with_row(row("Are messages safe?"))
    page.with_panel(number(
        "Durability as asked for",
        "1 while Redis is set up for redis.durability, as the nodes see it. If it is 0, `roomlog doctor` says what to set.",
        [(f"min(roomlog_durability_as_wanted{{{NODE}}})", "")], thresholds=below(1), width=3))
    page.with_panel(number(
        "Redis answers", "As the exporter sees it. If it is 0 while nodes are ready, the exporter has the wrong address.",
        [("min(redis_up)", "")], thresholds=below(1), width=3))
    page.with_panel(number(
        "Append-only file", "1 while every write goes to the file. `CONFIG SET appendonly yes` turns it on.",
        [("min(redis_aof_enabled)", "on"), ("min(redis_aof_last_write_status)", "last write went well"),
         ("min(redis_aof_last_bgrewrite_status)", "last rewrite went well")], thresholds=below(1)))
    page.with_panel(zero(
        "Evicted keys", "Redis deleted rooms, or parts of them, to save memory. Set `maxmemory-policy noeviction` at once.",
        "sum(increase(redis_evicted_keys_total[$__range]))", width=3))
    page.with_panel(number(
        "Memory left",
        "What remains until maxmemory; then Redis refuses publishes. Raise maxmemory, or let rooms keep less.",
        [("min((redis_memory_max_bytes > 0) - redis_memory_used_bytes)", "")], "bytes",
        [(None, "red"), (256e6, "orange"), (1e9, "green")], none="no limit is set"))
    page.with_panel(zero(
        "Full",
        "1 while nodes refuse messages and new durable subscriptions, since a Redis uses more than 95 % of maxmemory. Raise it, or "
        "let rooms keep less.",
        f"max(roomlog_redis_full{{{NODE}}})", width=3))
    page.with_panel(number(
        "Primaries that answer", "The share of Redis primaries whose probes come back, as the worst node sees it. Rooms of the others are "
        "unavailable there.",
        [(f"min(roomlog_redis_primaries_well{{{NODE}}} / roomlog_redis_primaries{{{NODE}}})", "")], "percentunit",
        below(1), width=3))
    page.with_panel(number(
        "Replicas", "Replicas that follow. `durability = \"replica\"` needs at least one.",
        [("sum(redis_connected_slaves)", "")]))

    page.with_row(row("The disk"))
    page.with_panel(graph(
        "Slowest recent write to the disk",
        "Redis notes writes and syncs of the append-only file that took longer than its latency-monitor-threshold; with "
        "appendfsync always every publish waits for one. Above 100 ms the disk is too slow, or shared with something.",
        [(f"max by (event_name) (redis_latency_spike_duration_seconds{{{FSYNC}}} and on (instance, event_name) "
          f"(time() - redis_latency_spike_last{{{FSYNC}}} < 300))", "{{event_name}}")], "s", above(0.1, 1),
        none="none was slow"))
    page.with_panel(graph(
        "Delayed syncs, a second", "With appendfsync everysec: times that a sync had not ended when the next was due.",
        [("sum(rate(redis_aof_delayed_fsync[$interval]))", "delayed")], "ops"))
    page.with_panel(graph(
        "Size of the append-only file", "It is rewritten when it has doubled. If it only grows, rewriting fails: see Redis's log.",
        [("max(redis_aof_current_size_bytes)", "now"), ("max(redis_aof_base_size_bytes)", "after the last rewrite")],
        "bytes"))

    page.with_row(row("How fast"))
    page.with_panel(graph(
        "Calls a second, by what they are for", "What nodes ask of Redis.",
        [(f'sum by (call) ({rate("roomlog_redis_calls_total")})', "{{call}}")], "ops"))
    page.with_panel(graph(
        "Time of a call, p99", "From sending to the reply, as nodes see it. `append` is what senders wait for.",
        [quantiles("roomlog_redis_call_seconds", NODE, "call")[1]], "s", above(0.1, 1)))
    page.with_panel(graph(
        "Failed calls a second", "Calls that Redis refused, or did not answer in time. The nodes' logs say why.",
        [(f'sum by (call) ({rate("roomlog_redis_calls_total", NODE + ",outcome=" + chr(34) + "failed" + chr(34))})',
          "{{call}}")], "ops", above(0.001)))
    page.with_panel(graph(
        "Commands a second, by command", "The ten most frequent in Redis, with those of others that use it.",
        [("topk(10, sum by (cmd) (rate(redis_commands_total[$interval])))", "{{cmd}}")], "ops"))
    page.with_panel(graph(
        "Time inside Redis, by command", "Without the way there and back. `fcall` holds append and acknowledgements.",
        [("topk(10, sum by (cmd) (rate(redis_commands_duration_seconds_total[$interval])) "
          "/ sum by (cmd) (rate(redis_commands_total[$interval]) > 0))", "{{cmd}}")], "s"))
    page.with_panel(graph(
        "CPU of Redis, in cores", "Redis runs commands on one core. Near 1, it is the bottleneck: use a cluster.",
        [("sum by (instance) (rate(redis_cpu_user_seconds_total[$interval]) "
          "+ rate(redis_cpu_sys_seconds_total[$interval]))", "{{instance}}")], "short", above(0.7, 0.9)))

    page.with_row(row("Memory, copies, slots"))
    page.with_panel(graph(
        "Memory", "At the limit, Redis refuses publishes (with noeviction). 0 as a limit means none, and the system kills it.",
        [("sum(redis_memory_used_bytes)", "used"), ("sum(redis_memory_max_bytes)", "limit"),
         ("sum(redis_memory_used_rss_bytes)", "resident")], "bytes"))
    page.with_panel(graph(
        "Replication: bytes written, a second",
        "What goes to replicas. If there are fewer than you run, see `INFO replication` on the primary.",
        [("sum(rate(redis_master_repl_offset[$interval]))", "written")], "Bps"))
    page.with_panel(graph(
        "Slots of a cluster", "All 16,384 must be served; rooms in others are unavailable.",
        [("min(redis_cluster_slots_ok)", "served"), ("max(redis_cluster_slots_fail)", "failed")],
        none="this Redis is no cluster"))
    return page
