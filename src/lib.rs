//! Roomlog: durable messaging for chat, notification and collaboration servers. A room is a log.
//!
//! Requests go down this list, and messages go up: `cli` starts a `node`; `http` and `session` are the edges;
//! `service` is what Roomlog does; `hub` delivers; `redis` stores; `log` is the model that they share.
#![warn(unreachable_pub)]

mod auth;
mod background;
mod cli;
mod config;
mod connections;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod http;
mod hub;
mod log;
mod net;
mod node;
mod redis;
mod service;
mod session;
#[cfg(test)]
mod simulation;
mod tasks;
mod telemetry;
mod util;

pub use cli::run;
use roomlog_protocol as protocol;

/// The parts that the micro-benchmarks time.
#[doc(hidden)]
pub mod timed {
    pub use crate::auth::{Grants, Permission, RoomGrants};
    pub use crate::hub::recent::RecentLimits;
    pub use crate::hub::send_queue::{Part, SendQueue, Sink, WriteBatch};
    pub use crate::hub::tail::Tail;
    pub use crate::log::{Entry, Epoch, Head, Page, Run};
    pub use crate::telemetry::Timed;
}

/// The list of all metrics, which dashboards and documents are checked against.
#[doc(hidden)]
pub mod metrics {
    pub use crate::telemetry::{Kind, Name};
}
