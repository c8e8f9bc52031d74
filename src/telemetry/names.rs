//! All metrics with their help texts, and the values of every label. All labels are bounded, and none is a
//! room's or a user's name.
#![allow(unreachable_pub)] // One macro defines all labels, whatever their reach.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    /// A distribution of durations, in seconds.
    Histogram,
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $kind:ident, $help:literal;)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Name {
            $(#[doc = $help] $name,)*
        }

        impl Name {
            pub const ALL: &[Self] = &[$(Self::$name),*];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            pub const fn help(self) -> &'static str {
                match self { $(Self::$name => $help),* }
            }

            pub const fn kind(self) -> Kind {
                match self { $(Self::$name => Kind::$kind),* }
            }
        }
    };
}

names! {
    Build = "roomlog_build_info", Gauge, "Always 1; the label carries the program's version";
    Ready = "roomlog_ready", Gauge, "1 while the node is ready: its latest probe came back in time, and it is not shutting down";
    Canaries = "roomlog_canaries_total", Counter, "Probes that the node published to itself, by outcome";
    CanarySeconds = "roomlog_canary_seconds", Histogram, "Time from publishing a probe until its notification arrived and it was read from the log";
    Connections = "roomlog_connections", Gauge, "Open connections, by transport";
    ConnectionLimit = "roomlog_connections_limit", Gauge, "Maximum number of connections (limits.connections)";
    Sockets = "roomlog_sockets", Gauge, "Accepted connections of any kind, including those that have not authenticated yet";
    Opened = "roomlog_connections_opened_total", Counter, "Connections opened by clients, by transport";
    Closed = "roomlog_connections_closed_total", Counter, "Connections closed by the server, by code";
    Publishes = "roomlog_publishes_total", Counter, "Messages published by clients, by room class and outcome";
    PublishSeconds = "roomlog_publish_seconds", Histogram, "Time from receiving a publish until Redis confirmed it, by room class";
    Deliveries = "roomlog_deliveries_total", Counter, "Messages delivered to subscribers, by room class and path";
    DeliverySeconds = "roomlog_delivery_seconds", Histogram, "Time from appending a message until it was written to a live subscriber's socket, by room class; measured for one subscriber per message, with the clocks of Redis and of this node";
    Signals = "roomlog_signals_total", Counter, "Signals delivered to subscribers";
    Acks = "roomlog_acks_total", Counter, "Acknowledgements received from clients";
    AckWrites = "roomlog_ack_writes_total", Counter, "Positions written to Redis; each covers one or more acknowledgements";
    Reads = "roomlog_reads_total", Counter, "Read positions received from clients";
    ReadWrites = "roomlog_read_writes_total", Counter, "Read positions written to Redis; each covers one or more received from clients";
    CatchUps = "roomlog_catch_ups_total", Counter, "Number of times that a subscription started to catch up, by reason";
    Gaps = "roomlog_gaps_total", Counter, "Gaps reported to subscribers, by room class and reason";
    Holes = "roomlog_holes_total", Counter, "Missed notifications, repaired by reading the log, by how they were detected";
    Subscriptions = "roomlog_subscriptions", Gauge, "Subscriptions of this node's connections";
    CatchingUp = "roomlog_subscriptions_catching_up", Gauge, "Subscriptions that are catching up: they read the log at their own pace";
    Rooms = "roomlog_active_rooms", Gauge, "Rooms with subscribers on this node";
    RingBytes = "roomlog_ring_bytes", Gauge, "Bytes of recent messages cached in memory";
    SentBytes = "roomlog_sent_bytes_total", Counter, "Bytes written to clients' sockets";
    ReceivedBytes = "roomlog_received_bytes_total", Counter, "Bytes of WebSocket messages read from clients";
    Queued = "roomlog_append_queue_messages", Gauge, "Messages waiting to be appended";
    QueuedBytes = "roomlog_append_queue_bytes", Gauge, "Bytes of messages waiting to be appended";
    OutboxBytes = "roomlog_outbox_bytes", Gauge, "Bytes waiting to be written to clients";
    FullQueues = "roomlog_full_queues_total", Counter, "Number of times that a bounded queue was full, by queue; docs/operations/full-queues.md lists the consequences";
    RedisCalls = "roomlog_redis_calls_total", Counter, "Commands sent to Redis, by call and outcome";
    RedisSeconds = "roomlog_redis_call_seconds", Histogram, "Time from sending a command until its reply, by call";
    Lag = "roomlog_subscription_lag_messages", Gauge, "Unacknowledged messages of the durable subscription that is furthest behind, by room class, as last seen by the janitor; 0 on other nodes";
    Unacknowledged = "roomlog_oldest_unacknowledged_seconds", Gauge, "Age of the oldest message that a durable subscription has not acknowledged, by room class, as last seen by the janitor; 0 on other nodes";
    Trimmed = "roomlog_trimmed_messages_total", Counter, "Messages removed by retention, by room class";
    Overrun = "roomlog_trimmed_unacknowledged_total", Counter, "Messages removed by retention before a durable subscription acknowledged them, by room class; counted per subscription, for the 1,000 furthest behind";
    Janitor = "roomlog_janitor", Gauge, "1 while this node is the janitor";
    RetentionHeld = "roomlog_retention_held", Gauge, "1 while this node, as the janitor, pauses retention by age because Redis's clock jumped ahead";
    RedisUp = "roomlog_redis_up", Gauge, "1 while Redis answers; in a cluster, while any primary does";
    Primaries = "roomlog_redis_primaries", Gauge, "Redis primaries known to the node; 1 without a cluster";
    PrimariesWell = "roomlog_redis_primaries_well", Gauge, "Redis primaries whose latest probe came back in time; rooms on the others are unavailable";
    RedisFull = "roomlog_redis_full", Gauge, "1 while a Redis server is so close to its memory limit that this node refuses messages and new durable subscriptions there";
    Durability = "roomlog_durability_as_wanted", Gauge, "1 if Redis (in a cluster, every primary) is configured for the requested durability";
    EmbeddedUp = "roomlog_embedded_redis_up", Gauge, "1 while the embedded Redis is running";
    EmbeddedRestarts = "roomlog_embedded_redis_restarts_total", Counter, "Number of restarts of the embedded Redis";
    KeySets = "roomlog_jwks_refreshes_total", Counter, "Fetches of the JWK set at auth.jwks_url, by outcome; after a failure the last good set stays in use";
    TaskDelay = "roomlog_task_delay_seconds", Histogram, "Scheduling delay of the async runtime: how late a periodic sleep wakes up";
    Tasks = "roomlog_tasks", Gauge, "Tasks alive in the async runtime";
    TaskQueue = "roomlog_task_queue", Gauge, "Tasks waiting in the global queue of the async runtime";
    ContextSwitches = "roomlog_context_switches_total", Counter, "Context switches of the process, by kind";
    SystemCalls = "roomlog_io_calls_total", Counter, "Read and write system calls, by kind, as counted in /proc/self/io";
    MemoryLimit = "roomlog_memory_limit_bytes", Gauge, "Memory available to the process: the limit of its control group, or the machine's memory";
}

macro_rules! label {
    ($(#[$doc:meta])* $label:ident { $($(#[$about:meta])* $value:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $label {
            $($(#[$about])* $value,)*
        }

        impl $label {
            pub const ALL: &[Self] = &[$(Self::$value),*];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$value => $text),* }
            }
        }
    };
}

label!(
    Transport {
        WebSocket = "websocket",
        Events = "sse",
        Poll = "poll",
    }
);

label!(
    CanaryOutcome {
        Returned = "returned",
        Lost = "lost",
    }
);

label!(
    Switch {
        Voluntary = "voluntary",
        Involuntary = "involuntary",
    }
);

label!(
    Direction {
        Read = "read",
        Write = "write",
    }
);

label!(
    Success {
        Ok = "ok",
        Failed = "failed",
    }
);

label!(
    Outcome {
        Stored = "stored",
        /// Redis had stored it already.
        Duplicate = "duplicate",
        Unavailable = "unavailable",
    }
);

label!(
    Path {
        Live = "live",
        Recent = "ring",
        Redis = "redis",
    }
);

label!(
    CatchUpReason {
        Subscribed = "subscribed",
        /// Its client reads more slowly than messages arrive.
        Slow = "slow",
        /// The node itself was behind by more than the ring's size.
        Behind = "behind",
    }
);

label!(
    Hole {
        /// A later message arrived.
        PubSub = "bell",
        /// The position was behind the head.
        Check = "check",
    }
);

label!(
    Queue {
        /// Messages to append. If full: `unavailable`.
        Append = "append",
        /// A connection's outgoing bytes. If full: its subscriptions catch up.
        Send = "outbox",
        Connections = "connections",
        /// A connection's publishes in progress. If full: it is not read from.
        InFlight = "in_flight",
        /// Lines of the log. If full: lines are dropped.
        Log = "log",
    }
);

label!(
    RedisCall {
        Append = "append",
        Wait = "wait",
        Read = "read",
        Head = "head",
        Attach = "attach",
        Ack = "ack",
        Signal = "signal",
        Trim = "trim",
        Manage = "manage",
    }
);
