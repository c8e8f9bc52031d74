"""Redis, which stores everything: durability, latency and capacity."""

from panels import NODE, REDIS, above, below, board, graph, number, quantiles, rate, row, zero

FSYNC = f'{REDIS},event_name=~"aof-fsync.*|aof-write.*"'


def build():
    page = board("roomlog-redis", "Roomlog: Redis", "Durability, latency and capacity of Redis.", with_redis=True)

    page.with_row(row("Durability"))
    page.with_panel(number(
        "Durability as configured",
        "1 while the settings of Redis satisfy redis.durability, as the nodes see them. If it is 0, `roomlog doctor` "
        "lists the settings to change.",
        [(f"min(roomlog_durability_as_wanted{{{NODE}}})", "")], thresholds=below(1), width=3))
    page.with_panel(number(
        "Redis answers", "As the exporter sees it. If it is 0 while nodes are ready, the exporter's address is wrong.",
        [(f"min(redis_up{{{REDIS}}})", "")], thresholds=below(1), width=3))
    page.with_panel(number(
        "Append-only file", "1 while every write goes to the file. `CONFIG SET appendonly yes` turns it on.",
        [(f"min(redis_aof_enabled{{{REDIS}}})", "on"), (f"min(redis_aof_last_write_status{{{REDIS}}})", "last write succeeded"),
         (f"min(redis_aof_last_bgrewrite_status{{{REDIS}}})", "last rewrite succeeded")], thresholds=below(1)))
    page.with_panel(zero(
        "Evicted keys", "Redis deleted rooms, or parts of them, to save memory. Set `maxmemory-policy noeviction` immediately.",
        f"sum(increase(redis_evicted_keys_total{{{REDIS}}}[$__range]))", width=3))
    page.with_panel(number(
        "Memory left",
        "Free memory below maxmemory. Nodes refuse publishes when less than 5 % is left. Raise maxmemory, or let rooms "
        "keep less.",
        [(f"min((redis_memory_max_bytes{{{REDIS}}} > 0) - redis_memory_used_bytes{{{REDIS}}})", "")], "bytes",
        [(None, "red"), (256e6, "orange"), (1e9, "green")], none="no limit"))
    page.with_panel(zero(
        "Full",
        "1 while nodes refuse messages and new durable subscriptions because a Redis uses more than 95 % of maxmemory. "
        "Raise it, or let rooms keep less.",
        f"max(roomlog_redis_full{{{NODE}}})", width=3))
    page.with_panel(number(
        "Working primaries",
        "The share of Redis primaries whose probes come back, on the node where it is lowest. Rooms on the other "
        "primaries are unavailable there.",
        [(f"min(roomlog_redis_primaries_well{{{NODE}}} / roomlog_redis_primaries{{{NODE}}})", "")], "percentunit",
        below(1), width=3))
    page.with_panel(number(
        "Replicas", "Connected replicas. `durability = \"replica\"` needs at least one.",
        [(f"sum(redis_connected_slaves{{{REDIS}}})", "")]))

    page.with_row(row("Disk"))
    page.with_panel(graph(
        "Slowest recent write to the disk",
        "Redis records writes and syncs of the append-only file that take longer than latency-monitor-threshold. With "
        "appendfsync always, every publish waits for one. Above 100 ms, the disk is too slow, or other programs use it.",
        [(f"max by (event_name) (redis_latency_spike_duration_seconds{{{FSYNC}}} and on (instance, event_name) "
          f"(time() - redis_latency_spike_last{{{FSYNC}}} < 300))", "{{event_name}}")], "s", above(0.1, 1),
        none="no slow writes"))
    page.with_panel(graph(
        "Delayed syncs per second", "With appendfsync everysec: syncs that had not finished when the next was due.",
        [(f"sum(rate(redis_aof_delayed_fsync{{{REDIS}}}[$__rate_interval]))", "delayed")], "ops"))
    page.with_panel(graph(
        "Size of the append-only file",
        "Redis rewrites the file when it has doubled. If it only grows, rewriting fails: see Redis's log.",
        [(f"max(redis_aof_current_size_bytes{{{REDIS}}})", "now"), (f"max(redis_aof_base_size_bytes{{{REDIS}}})", "after the last rewrite")],
        "bytes"))

    page.with_row(row("Latency"))
    page.with_panel(graph(
        "Calls per second, by purpose", "The nodes' calls to Redis.",
        [(f'sum by (call) ({rate("roomlog_redis_calls_total")})', "{{call}}")], "ops"))
    page.with_panel(graph(
        "Duration of calls, p99", "From request to reply, as nodes see it. Senders wait for `append`.",
        [quantiles("roomlog_redis_call_seconds", NODE, "call")[1]], "s", above(0.1, 1)))
    page.with_panel(graph(
        "Failed calls per second", "Calls that Redis rejected or did not answer in time. The nodes' logs give the reason.",
        [(f'sum by (call) ({rate("roomlog_redis_calls_total", NODE + ",outcome=" + chr(34) + "failed" + chr(34))})',
          "{{call}}")], "ops", above(0.001)))
    page.with_panel(graph(
        "Commands per second, by command", "The ten most frequent commands in Redis, including those of its other users.",
        [(f"topk(10, sum by (cmd) (rate(redis_commands_total{{{REDIS}}}[$__rate_interval])))", "{{cmd}}")], "ops"))
    page.with_panel(graph(
        "Time inside Redis, by command", "Without the network. `fcall` includes appends and acknowledgements.",
        [(f"topk(10, sum by (cmd) (rate(redis_commands_duration_seconds_total{{{REDIS}}}[$__rate_interval])) "
          f"/ sum by (cmd) (rate(redis_commands_total{{{REDIS}}}[$__rate_interval]) > 0))", "{{cmd}}")], "s"))
    page.with_panel(graph(
        "CPU of Redis, in cores", "Redis runs commands on one core. Near 1, Redis is the bottleneck: use a cluster.",
        [(f"sum by (instance) (rate(redis_cpu_user_seconds_total{{{REDIS}}}[$__rate_interval]) "
          f"+ rate(redis_cpu_sys_seconds_total{{{REDIS}}}[$__rate_interval]))", "{{instance}}")], "short", above(0.7, 0.9)))

    page.with_row(row("Memory, replication and slots"))
    page.with_panel(graph(
        "Memory",
        "At the limit, Redis refuses writes (with noeviction). A limit of 0 means none: the system kills Redis when "
        "memory runs out.",
        [(f"sum(redis_memory_used_bytes{{{REDIS}}})", "used"), (f"sum(redis_memory_max_bytes{{{REDIS}}})", "limit"),
         (f"sum(redis_memory_used_rss_bytes{{{REDIS}}})", "resident")], "bytes"))
    page.with_panel(graph(
        "Replication: bytes written per second",
        "The data sent to replicas. If fewer replicas are connected than you run, see `INFO replication` on the primary.",
        [(f"sum(rate(redis_master_repl_offset{{{REDIS}}}[$__rate_interval]))", "written")], "Bps"))
    page.with_panel(graph(
        "Cluster slots", "All 16,384 must be served; rooms in missing slots are unavailable.",
        [(f"min(redis_cluster_slots_ok{{{REDIS}}})", "served"), (f"max(redis_cluster_slots_fail{{{REDIS}}})", "failed")],
        none="not a cluster"))
    return page
