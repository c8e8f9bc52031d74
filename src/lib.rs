//! Roomlog: durable messaging for chat, notification and collaboration servers. A room is a log.
//!
//! Data flows down this list for requests, and up for messages: `cli` starts a `node`; `http` and `session` are the
//! edges; `service` is what Roomlog does; `hub` delivers; `redis` stores; `log` is the model that they share.

pub mod auth;
pub mod background;
pub mod cli;
pub mod config;
pub mod connections;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod http;
pub mod hub;
pub mod log;
pub mod net;
pub mod node;
pub mod redis;
pub mod service;
pub mod session;
#[cfg(test)]
mod simulation;
mod tasks;
pub mod telemetry;
pub mod util;

use roomlog_protocol as protocol;
